"""pyctr: the command line."""

import os  # noqa: F401 - the largest part of what every command loads: a step of its own in a trace
from time import monotonic_ns

LOADED_OS_NANOS = monotonic_ns()
