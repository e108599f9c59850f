"""ttrpc: containerd's light RPC between daemon and shim.

    client.py (sync)      aio.py (asyncio)      the shim's own loop
         |                      |                      |
    connection.py: ClientConnection and ServerConnection, state machines without I/O
         |                                   |
    frame.py: bytes <-> frames          wire.py: Request and Response messages

Spec: ttrpc PROTOCOL.md
"""
