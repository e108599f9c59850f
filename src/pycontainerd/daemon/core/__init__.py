"""Protocols and pure logic of the daemon: no wire types, no sockets, no SQL."""
