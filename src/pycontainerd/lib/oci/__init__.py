"""Typed documents of the OCI specifications."""
