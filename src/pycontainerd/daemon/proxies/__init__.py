"""Plugins that other programs serve on a socket: snapshotters and content stores."""
