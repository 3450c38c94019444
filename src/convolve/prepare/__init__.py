"""Writes official archives, and folders of images, in the formats that CNTK's examples read."""
