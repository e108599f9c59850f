"""The root filesystem of a container."""
