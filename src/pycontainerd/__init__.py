"""The containerd stack in Python: ctr, containerd, shim and OCI runtime."""
