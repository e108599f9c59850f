"""pyctr: the command line."""
