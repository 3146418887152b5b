"""The values of a host's variables, and the checks of each.

Nearly all inventories write a value plainly: text as text, a port as a number. `plain_values` takes such values. Whatever
else YAML or JSON can hold, and every error, is left to `host_variables.py`, because pydantic takes 0.1 s of CPU to load.
"""

import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, NamedTuple

from fleet.inventory.host_names import is_address
from fleet.inventory.tree import Variable
from fleet.onhost.protocol import Probe

NGINX_VARIABLES = ("nginx_binary", "nginx_pid_file", "nginx_config", "nginx_prefix")
CONNECTIONS = "ssh (fleet supports no other connection)"
"""What is allowed in ansible_connection."""
_COLLECTIONS = re.compile(r"(?:ansible\.(?:builtin|legacy)|community\.general)\.")
_DISCOVERED_PYTHONS = ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent")


def one_line(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("empty, or with control characters")
    return text


def absolute(text: str) -> str:
    if not one_line(text).startswith("/") or text.rstrip("/") == "":
        raise ValueError("not absolute")
    return text


def file(text: str) -> str:
    if absolute(text).endswith("/"):
        raise ValueError("a directory")
    return text


def address(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]{0,252}", text) and not is_address(text):
        raise ValueError("not an address")
    return text


def user(text: str) -> str:
    if not re.fullmatch(r"[^\s:@/-][^\s:/]{0,255}", one_line(text)):
        raise ValueError("not a user name")
    return text


def python(text: str) -> str | None:
    if text in _DISCOVERED_PYTHONS:
        return None
    if not re.fullmatch(r"/?\w[\w.+/-]*", text) or ("/" in text and not text.startswith("/")):
        raise ValueError("not an interpreter")
    return text


def without_collection(name: object) -> object:
    """`ssh` for `ansible.builtin.ssh`."""
    return _COLLECTIONS.sub("", name, count=1) if isinstance(name, str) else name


class HostValues(NamedTuple):
    """The value of every supported variable that is not a label; `None` for one that is not set."""

    ansible_host: str | None = None
    ansible_port: int | None = None
    ansible_user: str | None = None
    ansible_ssh_private_key_file: str | None = None
    ansible_ssh_args: str | None = None
    ansible_ssh_common_args: str | None = None
    ansible_ssh_extra_args: str | None = None
    ansible_connection: str | None = None
    ansible_become: bool | None = None
    ansible_become_method: str | None = None
    ansible_become_user: str | None = None
    ansible_python_interpreter: str | None = None
    nginx_binary: str | None = None
    nginx_pid_file: str | None = None
    nginx_config: str | None = None
    nginx_prefix: str | None = None
    fleet_probes: tuple[Probe, ...] | None = None
    fleet_state_dir: str | None = None
    fleet_known_hosts: str | None = None
    fleet_ssh_config: str | None = None


KNOWN = HostValues._fields


def plain_values(known: Mapping[str, Variable]) -> HostValues | None:
    """The values; `None` where one is not written plainly, or may be wrong."""
    found: dict[str, Any] = {}
    for name, variable in known.items():
        kind, check = _PLAIN.get(name, (NoneType, _any))
        if type(variable.value) is not kind:
            return None
        try:
            found[name] = check(variable.value)
        except ValueError:
            return None
    return HostValues(**found)


def _any(value: Any) -> Any:
    return value


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError("not a port")
    return number


def _method(text: str) -> object:
    method = without_collection(text)
    if method not in ("sudo", "doas"):
        raise ValueError("not a way to become root")
    return method


def _root(text: str) -> str:
    if text != "root":
        raise ValueError("not root")
    return text


_PLAIN: Mapping[str, tuple[type, Callable[[Any], Any]]] = {
    "ansible_host": (str, address),
    "ansible_port": (int, _port),
    "ansible_user": (str, user),
    "ansible_ssh_private_key_file": (str, one_line),
    "ansible_ssh_args": (str, _any),
    "ansible_ssh_common_args": (str, _any),
    "ansible_ssh_extra_args": (str, _any),
    "ansible_connection": (str, _any),
    "ansible_become": (bool, _any),
    "ansible_become_method": (str, _method),
    "ansible_become_user": (str, _root),
    "ansible_python_interpreter": (str, python),
    "nginx_binary": (str, file),
    "nginx_pid_file": (str, file),
    "nginx_config": (str, file),
    "nginx_prefix": (str, absolute),
    "fleet_state_dir": (str, absolute),
    "fleet_known_hosts": (str, one_line),
    "fleet_ssh_config": (str, one_line),
}
"""The type of a plain value, and its check, which raises `ValueError`."""
