"""Layers: tar streams read, applied to a directory and made from two, without trusting a byte of them."""
