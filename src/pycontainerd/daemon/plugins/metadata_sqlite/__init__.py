"""Everything the daemon knows, in one SQLite database."""
