"""Pulling from registries: names to descriptors, blobs to bytes, credentials that stay with their origin."""
