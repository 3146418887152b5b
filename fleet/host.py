"""A host of the inventory: one nginx instance and how to connect to it. Plain data, no secrets."""

from dataclasses import dataclass, field

from fleet.onhost.protocol import Layout, Probe

SSH_PORT = 22
"""The default port of sshd."""


@dataclass(frozen=True, slots=True)
class Host:
    """One host name of the inventory. `labels` are its other variables, as text; `where` is `file:line` of its definition.

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
    become: bool = False
    become_method: str = "sudo"
    python: str | None = None
    groups: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    layout: Layout = field(default_factory=Layout)
    probes: tuple[Probe, ...] = ()
    where: str = ""

    def label(self, name: str) -> str | None:
        """The value of a label, or `None`."""
        return dict(self.labels).get(name)
