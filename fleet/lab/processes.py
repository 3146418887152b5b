"""Processes of this machine: run one, kill some, and find those that belong to a lab.

A process belongs to a lab when its root is an overlay whose upper folder is the lab's, or when it is a `boot.sh` that
starts such a host. The kernel knows both, so this needs no state file and can't find another lab's process.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from fleet.errors import FleetError
from fleet.lab.folder import POLL_S, LabPaths, Owner

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(argv: Sequence[str], *, text: str = "", timeout_s: float = 60.0) -> str:
    """Run a command of this machine; returns its stdout. Raises `FleetError` with its stderr when it fails."""
    try:
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, "PATH": PATH, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FleetError(f"The lab can't run {argv[0]}: {error}.") from error
    if done.returncode != 0:
        output = (done.stderr or done.stdout).strip()
        raise FleetError(f"A command of the lab failed with exit code {done.returncode}: {' '.join(argv)}: {output}")
    return done.stdout


def started(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; `None` when it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def this_process() -> Owner:
    """This process, as the owner of a lab."""
    pid = os.getpid()
    return Owner(pid, started(pid) or 0)


def alive(owner: Owner) -> bool:
    """Whether exactly this process still runs."""
    return started(owner.pid) == owner.start


def wait_until(true: Callable[[], bool], *, within_s: float) -> bool:
    """Poll until `true` returns true, for `within_s` seconds at most. Returns whether it did."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(processes: Iterable[Owner]) -> None:
    """Kill these processes (a PID 1 with its whole namespace) and wait until they are gone. Raises `FleetError` if not."""
    wanted = tuple(processes)
    for process in wanted:
        if alive(process):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    if not wait_until(lambda: not any(alive(process) for process in wanted), within_s=20):
        stuck = ",".join(str(process.pid) for process in wanted if alive(process))
        raise FleetError(f"SIGKILL did not end process {stuck} within 20 s.", f"See its state: ps -p {stuck}")


def processes_of(paths: LabPaths) -> tuple[Owner, ...]:
    """Every process of the lab, those that are starting a host, and the other processes of their sessions."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    settled = {pid for pid in pids if _belongs(pid, paths)}
    found = []
    for pid in pids:
        start = started(pid)
        if start is not None and (pid in settled or _session(pid) in settled):
            found.append(Owner(pid, start))
    return tuple(found)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _belongs(pid: int, paths: LabPaths) -> bool:
    upper = f"upperdir={paths.disks}/"
    try:
        with open(f"/proc/{pid}/mountinfo") as source:
            if any(upper in line for line in source if line.split(" ", 5)[4] == "/"):
                return True
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    return any(word.endswith("/boot.sh") for word in argv) and any(word.startswith(f"{paths.disks}/") for word in argv)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a command on a host: the usual variables, and none of this process."""
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(extra or {})}
