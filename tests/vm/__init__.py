"""The runtime's tests in a virtual machine whose kernel has what the machine's own may lack (`make test-vm`)."""
