"""A host of the inventory: one nginx instance somewhere, and how to get there. Plain data, no secrets."""

from dataclasses import dataclass, field

from fleet.onhost.protocol import Layout, Probe

SSH_PORT = 22
"""Where sshd listens unless the inventory or ssh_config says otherwise."""


@dataclass(frozen=True, slots=True)
class Host:
    """One inventory name. `labels` are all other host variables, as text; `where` is `file:line` of its definition.

    `key_files`, `known_hosts` and `ssh_config` are paths on the laptop; what is `None` or empty is for OpenSSH's
    configuration to say.
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
