"""The client as objects for scripts: a daemon, its images and containers, and processes with their streams."""
