"""The warm process that shims are forked from."""
