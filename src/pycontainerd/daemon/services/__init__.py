"""One file per API service: wire message to core value and back, nothing else."""
