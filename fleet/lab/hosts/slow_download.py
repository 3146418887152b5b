#!/usr/bin/python3 -I
"""Hold one slow download of this host's own nginx open until somebody ends us or the server closes.

/run/held is there from the first byte on.
"""

import pathlib
import socket

with socket.create_connection(("127.0.0.1", 80)) as connection:
    connection.sendall(b"GET /slow.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while connection.recv(65536):
        pathlib.Path("/run/held").touch()
