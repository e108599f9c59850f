"""The mount manager: mounts that are made for a container outside of it, and taken away when nothing needs them."""
