<<<<<<< HEAD
"""Documents of the OCI runtime and image specs: strict readers, checked values."""
=======
"""Typed OCI documents: what image-spec and runtime-spec define, parsed strictly."""
>>>>>>> runtime
