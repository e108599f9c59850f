"""Typed client of the containerd API, for ctr and dockerd."""
