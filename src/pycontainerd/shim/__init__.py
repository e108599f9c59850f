"""containerd-shim-pyrunc-v2: keeps one container alive, whoever dies."""
