"""Agents for tests: OpenSSH's own, and one with a FIDO key whose token is software."""

import hashlib
import os
import socket
import struct
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SK_TYPE = b"sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:"
LIST, LISTED, SIGN, SIGNED, FAILURE = 11, 12, 13, 14, 5
USER_PRESENT = 1


@contextmanager
def ssh_agent(place: Path) -> Iterator[Path]:
    """A real, empty ssh-agent at this socket."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield place
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def ssh_add(agent: Path, *words: str | Path) -> None:
    """Keys are added to the agent at this socket."""
    subprocess.run(
        ["ssh-add", "-q", *words], check=True, capture_output=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)}
    )


class FidoAgent:
    """Speaks the agent protocol, and signs as a token does (OpenSSH: PROTOCOL.u2f). `touches` counts the signatures.

    `is_there` False: the token is unplugged, and every signature fails. `also`: a file with a plain key, which the agent
    lists last.
    """

    def __init__(self, place: Path, *, is_there: bool = True, also: Path | None = None) -> None:
        self.touches = 0
        self._key = Ed25519PrivateKey.generate()
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._blob = _string(SK_TYPE) + _string(raw) + _string(APPLICATION)
        self._is_there = is_there
        self._plain = paramiko.Ed25519Key.from_private_key_file(str(also)) if also is not None else None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(place))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def public(self) -> str:
        """Its line in authorized_keys."""
        return f"{SK_TYPE.decode()} {b64encode(self._blob).decode()}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._talk, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:
            while size := stream.read(4):
                stream.write(_string(self._answer(stream.read(struct.unpack(">I", size)[0]))))
                stream.flush()

    def _answer(self, asked: bytes) -> bytes:
        if asked[0] == LIST:
            held = [(self._blob, b"token"), *([(self._plain.asbytes(), b"plain")] if self._plain else [])]
            listed = b"".join(_string(blob) + _string(comment) for blob, comment in held)
            return bytes([LISTED]) + struct.pack(">I", len(held)) + listed
        if asked[0] == SIGN and self._plain is not None and asked[5:].startswith(blob := self._plain.asbytes()):
            return bytes([SIGNED]) + _string(self._plain.sign_ssh_data(asked[5 + len(blob) + 4 : -4]).asbytes())
        if asked[0] != SIGN or not self._is_there:
            return bytes([FAILURE])
        start = 1 + 4 + len(self._blob) + 4
        data = asked[start:-4]
        self.touches += 1
        mark = bytes([USER_PRESENT]) + struct.pack(">I", self.touches)
        signed = hashlib.sha256(APPLICATION).digest() + mark + hashlib.sha256(data).digest()
        return bytes([SIGNED]) + _string(_string(SK_TYPE) + _string(self._key.sign(signed)) + mark)

    def __enter__(self) -> "FidoAgent":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
