"""The version of every program of the project."""

VERSION = "0.1.0"
__version__ = VERSION
PACKAGE = "github.com/containerd/containerd"  # what `ctr --version` and containerd's Version name; scripts split on it
REVISION = ""
