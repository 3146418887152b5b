"""SSH user authentication (RFC 4252), one request at a time, as OpenSSH's client does it.

What paramiko lacks: the server's list of methods is kept for the message; a key is offered before anything is signed
with it, so that the operator touches a token only for a key that the server accepts; the signature is made in the visit's
own thread, where a failure ends nothing else; and a wait ends with the connection.
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
    """The server did not answer within the time for a login."""


class Disconnected(Exception):
    """The server ended the connection with a disconnect message."""


class UserAuth(AuthHandler):
    """The login of one user on one connection. Each method returns whether the login succeeded.

    `accepted`: the methods that the server allows. `proofs`: how many it has accepted, where it requires several.
    """

    def __init__(self, transport: paramiko.Transport, user: str, timeout_s: float) -> None:
        super().__init__(transport)
        self.accepted: tuple[str, ...] = ()
        self.proofs = 0
        self._peer: Any = transport
        self._user = user
        self._timeout_s = timeout_s
        self._is_wanted = False
        self.interactive_handler = self._answer
        self._secrets: list[str] = []

    def begin(self) -> bool:
        """Tries the method `none`, after which `accepted` is known."""
        event = threading.Event()
        self._peer.auth_handler = self
        self.auth_none(self._user, event)
        return self._wait(event)

    def offer(self, public: PublicKey, sign: Callable[[bytes, str], bytes]) -> bool:
        """Tries this key. Raises OSError when there is no signature, SSHException without a common algorithm."""
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
        """Tries the password once, by one method: each wrong one counts as a failed login."""
        if PASSWORD in self.accepted:
            return self._ask(PASSWORD, False, password)
        self._secrets = [password]
        return self._ask(INTERACTIVE, "", "")

    # Called in paramiko's thread

    @property
    def _client_handler_table(self) -> Any:
        return {**super()._client_handler_table, MSG_USERAUTH_PK_OK: self._number_60}  # type: ignore[misc]

    def _number_60(self, message: paramiko.Message) -> None:
        """Message 60 means: the key is accepted, the password must be changed, or there are prompts, by the method."""
        if self.auth_method == INTERACTIVE:
            self._parse_userauth_info_request(message)  # type: ignore[attr-defined]
            return
        self._is_wanted = self.auth_method == PUBLICKEY
        self._wake()

    def _answer(self, title: str, text: str, prompts: list[tuple[str, bool]]) -> list[str]:
        """The password for the first prompt without echo; an empty answer for every other prompt."""
        return ["" if is_echoed or not self._secrets else self._secrets.pop() for _, is_echoed in prompts]

    def _parse_userauth_failure(self, message: paramiko.Message) -> None:
        self.accepted = tuple(message.get_list())
        self.proofs += message.get_boolean()
        self._wake()

    def _wake(self) -> None:
        if self.auth_event is not None:
            self.auth_event.set()

    # Requests

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
        # Set before the request is sent: the answer may come at once.
        self.auth_event = event = threading.Event()
        with self._peer.lock:
            self._peer._send_message(message)
        return self._wait(event)

    def _wait(self, event: threading.Event) -> bool:
        """Whether the login succeeded. paramiko's thread sets the event at the answer, and at its own end."""
        if not event.wait(self._timeout_s):
            raise AuthTimeout
        if self._peer.is_active():
            return bool(self.is_authenticated())
        error = self._peer.get_exception()
        if error is None:
            raise Disconnected
        raise error
