"""Helpers build, tests assert."""
