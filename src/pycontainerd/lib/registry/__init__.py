"""Registries: names to descriptors, blobs to bytes and back, credentials that stay with their origin."""
