"""Ours and the installed peers, in turn, in one run."""
