"""A host of the inventory: one nginx instance and how to connect to it. Plain data, no secrets."""

from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.onhost.protocol import Layout, Probe

SSH_PORT = 22
"""The default port of sshd."""


class SshArguments(NamedTuple):
    """Options of ssh's command line, each in one word with its value (`-oProxyJump=gate`, `-4`).

    The first value of an option counts: `first` stand before the inventory's user and port, `last` after them.
    """

    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """One host name of the inventory. `labels` are its other variables, as text; `where` is `file:line` of its definition.

    `unrendered` names the labels whose text is a Jinja template or holds a secret in vault: only Ansible knows their values.
    `key_files`, `known_hosts` and `ssh_config` are paths on the laptop. For a field that is `None` or empty, OpenSSH's
    configuration applies.
    """

    name: str
    address: str
    port: int | None = None
    user: str | None = None
    key_files: tuple[str, ...] = ()
    known_hosts: str | None = None
    ssh_config: str | None = None
    ssh_arguments: SshArguments = field(default_factory=SshArguments)
    become: bool = False
    become_method: str = "sudo"
    python: str | None = None
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    unrendered: tuple[str, ...] = ()
    layout: Layout = field(default_factory=Layout)
    probes: tuple[Probe, ...] = ()
    where: str = ""

    @property
    def machine(self) -> tuple[object, ...]:
        """What leads to the machine: hosts that are equal in it are on one. An address may be another machine behind each
        bastion, so that the way counts.
        """
        return self.address.lower(), self.port or SSH_PORT, self.ssh_config, self.ssh_arguments

    def label(self, name: str) -> str | None:
        """The value of a label; `None` if the host has none of that name, or only Ansible knows its value."""
        return None if name in self.unrendered else dict(self.labels).get(name)
