"""pyrunc: the OCI runtime."""
