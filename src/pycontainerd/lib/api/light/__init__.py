"""The messages on the small codec: for the CLIs, the client, the shim and the runtime."""
