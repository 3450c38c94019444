"""Faults of labeled images, found before a training meets them."""
