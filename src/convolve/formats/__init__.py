"""Bytes <-> numpy: no torch, no randomness, no guessed paths."""
