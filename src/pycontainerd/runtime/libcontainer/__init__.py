"""Containers from bundles: the library behind pyrunc and the shim."""
