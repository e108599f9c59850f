"""Typed OCI documents: what image-spec and runtime-spec define, parsed strictly."""
