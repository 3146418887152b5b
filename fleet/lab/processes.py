"""The machine's processes, as far as a lab must know them: who is alive, and who lives in a lab.

A process belongs to a lab when its root is an overlay whose upper folder is the lab's, or when it is on the way there
(`boot.sh` with the lab's disk among its arguments). That is asked of the kernel, so a lab that wrote nothing down is
found too, and another lab's process can't be meant.
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
    """What a command of the machine printed. Raises `FleetError` with its own words when it fails."""
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
        raise FleetError(f"lab: {argv[0]}: {error}.") from error
    if done.returncode != 0:
        raise FleetError(f"lab: {' '.join(argv)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def started(pid: int) -> int | None:
    """When the process started, in clock ticks since the machine's boot; `None` for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def this_process() -> Owner:
    """We, as the owner of a lab."""
    pid = os.getpid()
    return Owner(pid, started(pid) or 0)


def alive(owner: Owner) -> bool:
    """Whether just this process still lives."""
    return started(owner.pid) == owner.start


def wait_until(true: Callable[[], bool], *, within_s: float) -> bool:
    """Whether `true` came true in time. It looks until then."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def end(processes: Iterable[Owner]) -> None:
    """These processes are gone, by SIGKILL; a PID 1 takes its whole namespace with it. Raises `FleetError` if not."""
    wanted = tuple(processes)
    for process in wanted:
        if alive(process):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    if not wait_until(lambda: not any(alive(process) for process in wanted), within_s=20):
        stuck = ", ".join(str(process.pid) for process in wanted if alive(process))
        raise FleetError(f"lab: SIGKILL did not end process {stuck} within 20 s.", "Look at it with ps.")


def processes_of(paths: LabPaths) -> tuple[Owner, ...]:
    """Every process that lives in the lab or is on its way into it, with what those have begun."""
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
    """What a command on a host finds in its environment: the ordinary things, and nothing of ours."""
    return {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **(extra or {})}
