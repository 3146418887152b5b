"""Hosts behind real bastions on this machine, and the ssh_config by which they are reached."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.host import Host
from fleet.task import Connecting
from tests.support.ssh.server import Sshd, sshd


@dataclass(frozen=True, slots=True)
class Hops:
    """A chain of sshds, each reached through the one before it. They share one `known_hosts`."""

    servers: tuple[Sshd, ...]
    config: Path
    known_hosts: Path

    @property
    def host(self) -> Host:
        """The last one, as the inventory would name it."""
        return Host(name="web-01", address=name_of(len(self.servers) - 1))

    @property
    def connecting(self) -> Connecting:
        return Connecting(ssh_config=str(self.config))

    def know(self, *which: int) -> None:
        """Writes the keys of these servers, and no others, to known_hosts."""
        lines = [f"[127.0.0.1]:{self.servers[at].port} {self.servers[at].public_key}\n" for at in which]
        self.known_hosts.write_text("".join(lines))


def name_of(at: int) -> str:
    return f"hop-{at}"


@contextmanager
def hops(folder: Path, count: int) -> Iterator[Hops]:
    """`count` sshds: the last is the host, the others are bastions before it."""
    known_hosts, config = folder / "known_hosts", folder / "config"
    with ExitStack() as stack:
        servers, lines = [], []
        for at in range(count):
            place = folder / name_of(at)
            place.mkdir()
            server = stack.enter_context(sshd(place))
            servers.append(server)
            lines += [f"Host {name_of(at)}", "HostName 127.0.0.1", f"Port {server.port}", "User root"]
            lines += [f"IdentityFile {server.host.key_files[0]}", f"ProxyJump {name_of(at - 1) if at else 'none'}"]
        lines += ["Host *", "IdentitiesOnly yes", f"UserKnownHostsFile {known_hosts}", "GlobalKnownHostsFile none"]
        config.write_text("\n".join([*lines, ""]))
        found = Hops(tuple(servers), config, known_hosts)
        found.know()
        yield found
