"""One file per command of pyrunc, imported when it is called."""
