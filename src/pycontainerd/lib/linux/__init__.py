"""One file per kernel interface: thin, typed wrappers that decide nothing."""
