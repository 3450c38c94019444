"""Image transforms, one per file: a frozen value draws its random choices, and a pure function applies them."""
