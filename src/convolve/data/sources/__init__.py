"""Where labeled images come from: one file a form, each with a function that opens it as a `Source`."""
