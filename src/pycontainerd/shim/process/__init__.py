"""Processes of a container: init, execs, and the states they may be in."""
