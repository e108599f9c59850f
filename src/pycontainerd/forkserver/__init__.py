"""The warm process that shims and workers are forked from."""
