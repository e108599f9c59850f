"""pycontainerd: the daemon."""
