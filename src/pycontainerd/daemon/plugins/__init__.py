"""Backends of the core protocols; daemon.main wires them together."""
