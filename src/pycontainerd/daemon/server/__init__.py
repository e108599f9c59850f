"""How requests reach the services: gRPC and ttrpc on unix sockets, one dispatcher for both."""
