"""The ssh-agent at a socket: the keys that it holds, and signatures by them.

paramiko uses only the agent of SSH_AUTH_SOCK, and signs for a certificate with the plain key, which an agent with the
certificate alone does not list. Each visit has its own connection: an agent connection takes one request at a time.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass

import paramiko
from paramiko.agent import ALGORITHM_FLAG_MAP, SSH2_AGENT_SIGN_RESPONSE, AgentSSH
from paramiko.pkey import UnknownKeyType

from fleet.onhost.text import safe
from fleet.ssh.auth.key_files import PublicKey

SIGN_REQUEST = b"\x0d"
LIST_S = 10.0
AGENT_ERRORS = (OSError, ValueError, TypeError, LookupError, paramiko.SSHException, UnknownKeyType)


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key that the agent holds, with the comment that it was added with."""

    public: PublicKey
    comment: str


class Agent(AgentSSH):
    """A connection to an agent. Signing may wait until the operator touches a token."""

    def __init__(self, place: str, sign_s: float) -> None:
        """Connects and lists the keys. Raises OSError when no agent answers at the socket `place`."""
        super().__init__()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(LIST_S)
            connection.connect(place)
            self._connect(connection)  # type: ignore[attr-defined]
        except AGENT_ERRORS as error:
            connection.close()
            raise OSError(str(error)) from error
        connection.settimeout(sign_s)
        self.held = tuple(AgentKey(PublicKey(key.name, key.blob), safe(key.comment)) for key in self.get_keys())

    def sign(self, public: PublicKey, data: bytes, algorithm: str) -> bytes:
        """A signature by one of its keys. Raises OSError when it gives none."""
        message = paramiko.Message()
        message.add_byte(SIGN_REQUEST)
        message.add_string(public.blob)
        message.add_string(data)
        message.add_int(ALGORITHM_FLAG_MAP.get(algorithm, 0))
        try:
            kind, answer = self._send_message(message)  # type: ignore[attr-defined]
        except AGENT_ERRORS as error:
            raise OSError(f"the agent gave no signature: {error}") from error
        if kind != SSH2_AGENT_SIGN_RESPONSE:
            raise OSError(
                "the agent gave no signature: the token was not touched, the use not confirmed, or the agent is locked"
            )
        signature: bytes = answer.get_binary()
        return signature

    def close(self) -> None:
        """Closes the connection."""
        with suppress(OSError):
            self._close()  # type: ignore[attr-defined]
