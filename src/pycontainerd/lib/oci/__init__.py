"""Documents of the OCI runtime and image specs: strict readers, checked values."""
