"""Image transforms, one per file: a frozen value that draws its random choices, and a pure function that applies
them."""
