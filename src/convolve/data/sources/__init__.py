"""Where labeled images come from: one file per form of data, each with a function that opens it as a `Source`."""
