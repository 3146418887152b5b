"""The password for sudo or doas: asked for once, or read from a file that only the operator can read."""

import os
import stat
from collections.abc import Callable, Sequence

from fleet.errors import Refused
from fleet.host import Host
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.task import Connecting

MAX_BYTES = 4000
"""A terminal's input line holds at most 4095 bytes (N_TTY_BUF_SIZE)."""


def load_become_password(hosts: Sequence[Host], connecting: Connecting, ask: Callable[[str], str]) -> None:
    """Puts the password into `SECRETS` if the operator gives one and a host may need it. Raises `Refused`."""
    logins = sorted({f"{host.become_method} for {host.user or 'your login'}" for host in hosts if _may_want(host)})
    if not logins or SECRETS.get(SecretKind.BECOME) is not None:
        return
    if connecting.become_password_file is not None:
        SECRETS.put(
            SecretKind.BECOME, _checked(_read(connecting.become_password_file), connecting.become_password_file)
        )
    elif connecting.ask_become_pass:
        SECRETS.put(SecretKind.BECOME, _checked(ask(f"Password of {', '.join(logins)}: "), "what was typed"))


def _may_want(host: Host) -> bool:
    return host.become and host.user != "root"


def _read(path: str) -> str:
    """The first line of the file, which may be a pipe: `<(pass show deploy)`."""
    try:
        with open(path, "rb") as source:
            seen = os.fstat(source.fileno())
            if seen.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or seen.st_uid not in (0, os.geteuid()):
                raise Refused(
                    f"The password file {path} can be read or changed by others.",
                    f"Only you may have access to it: chmod 600 {path}.",
                )
            text = source.read(MAX_BYTES + 2)
    except OSError as error:
        raise Refused(
            f"The password file {path} can't be read: {error.strerror}.", f"See its mode and owner: ls -l {path}."
        ) from error
    return text.decode("utf-8", "surrogateescape").split("\n")[0].removesuffix("\r")


def _checked(text: str, where: str) -> str:
    """The password, if it can be typed on a terminal. Raises `Refused`, whose text holds no part of it."""
    if not text:
        raise Refused(f"The password to become root is empty ({where}).", "Give a password, or leave the option out.")
    if (
        any(ord(letter) < 32 or ord(letter) == 127 for letter in text)
        or len(text.encode("utf-8", "replace")) > MAX_BYTES
    ):
        raise Refused(
            f"The password to become root holds a control character, or is too long ({where}).",
            "See that the first line of the file holds the password alone.",
        )
    return text
