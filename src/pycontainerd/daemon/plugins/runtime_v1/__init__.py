"""The runtime of containerd 1.x's first shims: io.containerd.runtime.v1.linux."""
