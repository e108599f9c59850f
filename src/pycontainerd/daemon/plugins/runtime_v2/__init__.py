"""Shims: bundles, starting, connecting, reconnecting, and what to do when one dies."""
