"""The wire messages of containerd's API: one surface, two back ends (light: small codec; full: upb)."""
