"""HTTP/2's server side, as far as gRPC uses it."""
