<<<<<<< HEAD
"""Typed OCI documents: what image-spec and runtime-spec define, parsed strictly."""
=======
"""Documents of the OCI runtime and image specs: strict readers, checked values."""
>>>>>>> main
