"""SSH's user authentication (RFC 4252), one question at a time, as OpenSSH's client asks it.

What paramiko lacks: the server's list of methods is kept for people to read; a key is shown to the server before
anything is signed with it, so that nobody touches a token for a key that isn't wanted; a signature is made in the
visit's own thread, where a failure ends nothing else; and waiting ends with the connection.
"""

import threading
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.common import MSG_USERAUTH_PK_OK, cMSG_USERAUTH_REQUEST

from fleet.ssh.auth.key_files import PublicKey

SERVICE = "ssh-connection"
PUBLICKEY, PASSWORD, INTERACTIVE = "publickey", "password", "keyboard-interactive"


class AuthTimeout(Exception):
    """The server didn't answer within the time for a login."""


class Disconnected(Exception):
    """The server ended the connection, and said so: to it the login is over."""


class UserAuth(AuthHandler):
    """The login of one user on one connection. Each method says whether we are in; `accepted` is what may be tried."""

    def __init__(self, transport: paramiko.Transport, user: str, timeout_s: float) -> None:
        super().__init__(transport)
        self.accepted: tuple[str, ...] = ()
        self.proofs = 0  # taken, by a server that wants more than one
        self._peer: Any = transport
        self._user = user
        self._timeout_s = timeout_s
        self._is_wanted = False
        self.interactive_handler = self._answer
        self._secrets: list[str] = []

    def begin(self) -> bool:
        """Whether the server lets us in without any proof. Now `accepted` is known."""
        event = threading.Event()
        self._peer.auth_handler = self
        self.auth_none(self._user, event)
        return self._wait(event)

    def offer(self, public: PublicKey, sign: Callable[[bytes, str], bytes]) -> bool:
        """Whether this key lets us in. Raises OSError when there is no signature, SSHException for no algorithm."""
        algorithm: str = self._finalize_pubkey_algorithm(public.type)  # type: ignore[attr-defined]
        self._is_wanted = False
        if self._ask(PUBLICKEY, False, algorithm, public.blob):
            return True
        if not self._is_wanted:
            return False
        signed = paramiko.Message()
        signed.add_string(self._peer.session_id)
        signed.add_bytes(self._request(PUBLICKEY, True, algorithm, public.blob).asbytes())
        return self._ask(PUBLICKEY, True, algorithm, public.blob, sign(signed.asbytes(), algorithm))

    def give(self, password: str) -> bool:
        """Whether the password lets us in. It is given once, by one method: a wrong one counts as a failed login."""
        if PASSWORD in self.accepted:
            return self._ask(PASSWORD, False, password)
        self._secrets = [password]
        return self._ask(INTERACTIVE, "", "")

    # How paramiko's own thread hands us what came

    @property
    def _client_handler_table(self) -> Any:
        return {**super()._client_handler_table, MSG_USERAUTH_PK_OK: self._number_60}  # type: ignore[misc]

    def _number_60(self, message: paramiko.Message) -> None:
        """One number, three meanings: this key is wanted; the password has to be changed; questions."""
        if self.auth_method == INTERACTIVE:
            self._parse_userauth_info_request(message)  # type: ignore[attr-defined]
            return
        self._is_wanted = self.auth_method == PUBLICKEY
        self._wake()

    def _answer(self, title: str, text: str, prompts: list[tuple[str, bool]]) -> list[str]:
        """The password to the first question that is not echoed; whatever else is asked gets an empty answer."""
        return ["" if is_echoed or not self._secrets else self._secrets.pop() for _, is_echoed in prompts]

    def _parse_userauth_failure(self, message: paramiko.Message) -> None:
        self.accepted = tuple(message.get_list())
        self.proofs += message.get_boolean()
        self._wake()

    def _wake(self) -> None:
        if self.auth_event is not None:
            self.auth_event.set()

    # Asking

    def _request(self, method: str, *fields: str | bytes | bool) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        for text in (self._user, SERVICE, method):
            message.add_string(text)
        for field in fields:
            if isinstance(field, bool):
                message.add_boolean(field)
            else:
                message.add_string(field)
        return message

    def _ask(self, method: str, *fields: str | bytes | bool) -> bool:
        message = self._request(method, *fields)
        self.auth_method = method
        # Before it is sent: the answer may come at once.
        self.auth_event = event = threading.Event()
        with self._peer.lock:
            self._peer._send_message(message)
        return self._wait(event)

    def _wait(self, event: threading.Event) -> bool:
        """Whether we are in, now that the server has answered; its thread sets the event at its end, too."""
        if not event.wait(self._timeout_s):
            raise AuthTimeout
        if self._peer.is_active():
            return bool(self.is_authenticated())
        error = self._peer.get_exception()
        if error is None:
            raise Disconnected
        raise error
