#!/usr/bin/python3 -I
"""Keep one slow download from this host's own nginx open until this process is killed or nginx closes it.

It creates /run/held at the first byte.
"""

import pathlib
import socket

with socket.create_connection(("127.0.0.1", 80)) as connection:
    connection.sendall(b"GET /slow.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while connection.recv(65536):
        pathlib.Path("/run/held").touch()
