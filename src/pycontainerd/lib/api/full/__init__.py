"""The messages on upb: for the daemon only (google.protobuf costs 25 ms to import)."""
