"""What runs between the first namespace and execve."""
