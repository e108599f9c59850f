"""The command line of pyrunc."""
