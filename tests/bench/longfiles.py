"""Long SSH files: what one host's place in them costs fleet, which asks OpenSSH's programs, and Fabric and paramiko.

A thousand stanzas in ssh_config, and five thousand hosts in known_hosts. The second figure counts the programs that were
asked, which run beside this process; Python's share is what all visits of a rollout wait in line for.
"""

import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import fabric
import paramiko

from fleet.host import Host
from fleet.ssh.hostkeys.acceptance import known_host_for
from fleet.ssh.openssh_config import resolve
from fleet.task import PLAIN
from tests.support.ssh.server import make_key, public

HOSTS = 20
STANZAS, KNOWN = 1000, 5000


def names() -> list[str]:
    return [f"web-{number}" for number in range(HOSTS)]


def settings_by_fleet(config: Path) -> None:
    for name in names():
        resolve(Host(name=name, address=name), replace(PLAIN, ssh_config=str(config)))


def settings_by_fabric(config: Path) -> None:
    for name in names():
        fabric.Connection(name, config=fabric.Config(runtime_ssh_path=str(config)))


def keys_by_fleet(known_hosts: Path) -> None:
    for name in names():
        host = Host(name=name, address=name, known_hosts=str(known_hosts))
        assert known_host_for(resolve(host, replace(PLAIN, ssh_config="none"))).keys


def keys_by_paramiko(known_hosts: Path) -> None:
    for name in names():
        assert paramiko.HostKeys(str(known_hosts)).lookup(name)


def used_s() -> tuple[float, float]:
    """CPU seconds of this process, and of it with the programs that it has waited for."""
    ours, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    python_s = ours.ru_utime + ours.ru_stime
    return python_s, python_s + theirs.ru_utime + theirs.ru_stime


def compare(what: str, path: Path, readers: Sequence[tuple[str, Callable[[Path], None]]]) -> None:
    """A line for each reader; the first one is what the others are compared with."""
    first_s = 0.0
    for name, read in readers:
        before = used_s()
        read(path)
        python_ms, all_ms = (1000 * (now - then) / HOSTS for now, then in zip(used_s(), before, strict=True))
        first_s = first_s or python_ms
        print(f"{what:<14}{name:<10}{python_ms:>10.1f}{all_ms:>16.1f}  {python_ms / first_s:.1f} x", flush=True)


def main() -> None:
    with TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        config, known_hosts = folder / "config", folder / "known_hosts"
        stanzas = [f"Host other-{number}\n  User deploy\n  Port {number}\n" for number in range(1, STANZAS + 1)]
        config.write_text("".join(stanzas))
        key = public(make_key(folder / "key"))
        known = [f"other-{number},10.0.{number // 250}.{number % 250} {key}\n" for number in range(KNOWN)]
        known_hosts.write_text("".join(known + [f"{name} {key}\n" for name in names()]))
        print(f"{'CPU ms a host':<24}{'Python':>10}{'with programs':>16}  Python beside fleet's")
        compare("ssh_config", config, [("fleet", settings_by_fleet), ("Fabric", settings_by_fabric)])
        compare("known_hosts", known_hosts, [("fleet", keys_by_fleet), ("paramiko", keys_by_paramiko)])


if __name__ == "__main__":
    main()
