"""What `%h`, `~` and `${NAME}` stand for in ssh_config, and whose home and name ssh takes (ssh_config(5), TOKENS)."""

import os
import pwd
import re
import socket
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1

from fleet.ssh.link_errors import LinkError

NONE = "none"
# What OpenSSH 9.6 and newer accept in no name that comes from outside, because a ProxyCommand hands it to a shell.
NO_HOST = re.compile(r"^-|['\"`$\\;&<>|(){},\s\x00-\x1f\x7f]")
NO_USER = re.compile(r"^-|['\"`;&<>|(){}\x00-\x1f\x7f]|\s-|\\$")


def home() -> str:
    """The home folder from the user database, which OpenSSH uses, not $HOME. Raises `LinkError`."""
    return _me().pw_dir


def local_user() -> str:
    return _me().pw_name


def _me() -> pwd.struct_passwd:
    """The user of this process."""
    return _user(os.getuid())


@lru_cache(maxsize=4)
def _user(uid: int) -> pwd.struct_passwd:
    """The user, which each path of each host needs. In a container it may have no name; then ssh does not run either."""
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise LinkError(
            "ssh_config_refused",
            f"The user {uid} has no name and no home folder, and ssh does not run without them.",
            "Give it a line in /etc/passwd, or run fleet as another user.",
        ) from error


@dataclass(frozen=True, slots=True)
class Tokens:
    """The values of `%h`, `~` and `${NAME}` (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES)."""

    name: str
    hostname: str
    port: int
    user: str
    alias: str
    jumps: str

    def text(self, text: str) -> str:
        """The text with each token replaced; an unknown token stays."""
        if "%" not in text:
            return text
        local = socket.gethostname()
        known = {
            "%": "%",
            "d": home(),
            "h": self.hostname,
            "i": str(os.getuid()),
            "j": self.jumps,
            "k": self.alias,
            "L": local.partition(".")[0],
            "l": local,
            "n": self.name,
            "p": str(self.port),
            "r": self.user,
            "u": local_user(),
        }
        known["C"] = sha1(
            f"{local}{self.hostname}{self.port}{self.user}{self.jumps}".encode(), usedforsecurity=False
        ).hexdigest()
        return re.sub(r"%(.)", lambda found: known.get(found[1], found[0]), text)

    def command(self, text: str) -> str:
        """A ProxyCommand for the shell. Raises `LinkError` for a name in it that the shell would read as a command."""
        used = set(re.findall(r"%(.)", text))
        for tokens, value, bad in (("hnk", self.name, NO_HOST), ("r", self.user, NO_USER)):
            if bad.search(value) and used & set(tokens):
                raise LinkError(
                    "ssh_config_refused",
                    f"The ProxyCommand would hand the name {value!r} to a shell, which reads more than a name in it.",
                    "Correct ansible_host or ansible_user in the inventory, or name the host and the user in the ProxyCommand.",
                )
        return self.text(text)

    def paths(self, text: str) -> tuple[str, ...]:
        """The files of a list, without `none`."""
        return tuple(self.path(path) for path in text.split() if path != NONE)

    def path(self, text: str) -> str:
        """A path on this machine."""
        if text == "~" or text.startswith("~/"):
            text = home() + text[1:]
        elif text.startswith("~"):
            text = os.path.expanduser(text)
        text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), text)
        return self.text(text)
