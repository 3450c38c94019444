"""Faults of labelled images, found before a training meets them."""
