"""The output of one command: what reading it costs fleet, Fabric's `run`, and OpenSSH's client, for 5 and for 20 MB.

Each reads in a process of its own, from the same sshd. Fabric joins all that has come for each kilobyte that comes, so
its share grows with the square of the output.
"""

import resource
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import fabric
import paramiko

from fleet.host import Host
from fleet.ssh.remote.command import Command
from fleet.ssh.transport.connection import Link
from tests.support.ssh.server import sshd
from tests.support.ssh.stubs import QUICK

MEGABYTES = (5, 20)


def printing(megabytes: int) -> str:
    """A command that prints so much, in lines of 2,000 bytes."""
    return f"yes $(printf %01999d 7) | head -n {500 * megabytes}"


def by_fleet(host: Host, megabytes: int) -> int:
    link = Link(host, QUICK)
    link.open()
    try:
        lines = Command(link, f"exec sh -c '{printing(megabytes)}'").lines(lambda: QUICK.silence_s)
        return sum(len(line) + 1 for line in lines)
    finally:
        link.close()


def by_fabric(host: Host, megabytes: int) -> int:
    with fabric.Connection(
        host.address, user=host.user, port=host.port, connect_kwargs={"key_filename": list(host.key_files)}
    ) as there:
        there.client.set_missing_host_key_policy(paramiko.RejectPolicy())
        there.client.load_host_keys(str(host.known_hosts))
        return len(there.run(printing(megabytes), hide=True, in_stream=False).stdout)


def by_ssh(host: Host, megabytes: int) -> int:
    options = ["-F", "none", "-o", f"UserKnownHostsFile={host.known_hosts}", "-o", "BatchMode=yes"]
    there = ["-i", host.key_files[0], "-p", str(host.port), f"{host.user}@{host.address}"]
    done = subprocess.run(["ssh", *options, *there, printing(megabytes)], stdout=subprocess.PIPE, check=True)
    return len(done.stdout)


def cost(read: Callable[[Host, int], int], host: Host, megabytes: int) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and the peak of memory in MB of a process that reads it; a child counts as well."""
    began_s = time.monotonic()
    assert read(host, megabytes) == megabytes * 1_000_000
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(one) for one in who]
    peak_mb = max(one.ru_maxrss for one in used) / 1024
    return sum(one.ru_utime + one.ru_stime for one in used), time.monotonic() - began_s, peak_mb


def main() -> None:
    peers = {"fleet": by_fleet, "Fabric": by_fabric, "OpenSSH": by_ssh}
    print(f"{'output':>7}  {'reader':<8}{'CPU s':>8}{'wall s':>8}{'peak MB':>9}  CPU beside fleet's")
    with TemporaryDirectory(prefix="fleet-bench-") as folder, sshd(Path(folder)) as running:
        for megabytes in MEGABYTES:
            ours_s = None
            for name, read in peers.items():
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own_process:
                    cpu_s, wall_s, peak_mb = own_process.submit(cost, read, running.host, megabytes).result()
                ours_s = ours_s or cpu_s
                shown = f"{cpu_s:>8.2f}{wall_s:>8.2f}{peak_mb:>9.0f}  {cpu_s / ours_s:.1f} x"
                print(f"{megabytes:>4} MB  {name:<8}{shown}", flush=True)


if __name__ == "__main__":
    main()
