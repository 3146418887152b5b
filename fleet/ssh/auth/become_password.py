"""The password by which the logins become root: asked for once, or read from a file that nobody else may read."""

import os
import stat
from collections.abc import Callable, Sequence

from fleet.errors import Refused
from fleet.host import Host
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.task import Connecting

MAX_BYTES = 4000
"""A terminal takes no longer line than 4095."""


def load_become_password(hosts: Sequence[Host], connecting: Connecting, ask: Callable[[str], str]) -> None:
    """`SECRETS` has it when the operator gives one and one of the hosts may want it. Raises `Refused`."""
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
    """The file's first line. A pipe will do, as `<(pass show deploy)` gives one."""
    try:
        with open(path, "rb") as source:
            seen = os.fstat(source.fileno())
            if seen.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or seen.st_uid not in (0, os.geteuid()):
                raise Refused(f"the password file {path} can be read or changed by others.", f"chmod 600 {path}")
            text = source.read(MAX_BYTES + 2)
    except OSError as error:
        raise Refused(f"the password file {path} can't be read: {error.strerror}.", "Look at the file.") from error
    return text.decode("utf-8", "surrogateescape").split("\n")[0].removesuffix("\r")


def _checked(text: str, where: str) -> str:
    """The password, if a terminal would take it as it is. Raises `Refused`, without a word of it."""
    if not text:
        raise Refused(f"the password to become root is empty ({where}).", "Give it, or leave the option out.")
    if (
        any(ord(letter) < 32 or ord(letter) == 127 for letter in text)
        or len(text.encode("utf-8", "replace")) > MAX_BYTES
    ):
        raise Refused(
            f"the password to become root holds a control character, or is too long ({where}).",
            "See that the file holds the password alone, on its first line.",
        )
    return text
