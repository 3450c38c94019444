"""The local page and its endpoint (the extra `serve`): drop or draw an image, see what the model sees."""
