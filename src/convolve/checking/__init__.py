"""Faults in labeled images, found before a training meets them."""
