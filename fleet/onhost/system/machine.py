"""This host: everything the step script sees of it and does to it, behind one class.

Steps, preflight and verify look and act only through a `Machine`, so that a test can hand them another one: the model
nginx of the unit tests, or one that breaks at a chosen moment. Its files, processes and connections have a module each.
"""

import os
import time
from typing import Collection, Dict, NamedTuple, Optional, Tuple

from fleet.onhost.system.connections import Connections
from fleet.onhost.system.files import Files
from fleet.onhost.system.process import Processes

POLL_S = 0.01
CLOCK_BOOTTIME = 7  # Linux; the name came with Python 3.7


class Ran(NamedTuple):
    """A command that has ended. `code` is 127 when it could not be executed and -N when signal N ended it."""

    code: int
    output: str
    took_s: float


class Machine(Files, Processes, Connections):
    """This host: its files, processes and connections, its clocks, and the programs that run on it."""

    def monotonic_s(self) -> float:
        return time.monotonic()

    def boottime_s(self) -> float:
        """Seconds since boot, including suspended time (CLOCK_BOOTTIME). Setting the clock does not change it."""
        return time.clock_gettime(CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return (self.read("/proc/sys/kernel/random/boot_id") or "").strip()

    def age_s(self, path: str) -> float:
        """Seconds since the file was last written; 0 when it does not exist."""
        seen = self.stat(path)
        return time.time() - seen.st_mtime if seen is not None else 0.0

    def age_of_change_s(self, seen: os.stat_result) -> float:
        """Seconds since the file, or its name, owner or mode, was last changed."""
        return time.time() - seen.st_ctime

    def utc(self) -> str:
        """Now, as ISO 8601 in UTC with milliseconds."""
        return self.utc_at(time.time())

    def utc_at(self, at_s: float) -> str:
        """This moment in seconds since 1970, as ISO 8601 in UTC with milliseconds."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + ".%03dZ" % (int(at_s * 1000) % 1000)

    def began_s(self, start: int) -> float:
        """When a process with this start time (in ticks) began, in seconds since 1970, to about 0.01 s."""
        # An interruption between the two clocks makes the difference smaller, never larger.
        booted_s = max(time.time() - time.clock_gettime(CLOCK_BOOTTIME) for _ in range(5))
        return booted_s + start / os.sysconf("SC_CLK_TCK")

    def age_of_process_s(self, start: int) -> float:
        """How long ago a process with this start time (in ticks) began, in seconds, to about 0.01 s."""
        return self.boottime_s() - start / os.sysconf("SC_CLK_TCK")

    def pause(self, seconds: float = POLL_S) -> None:
        """Sleep between two looks. It never stands in for seeing the effect."""
        time.sleep(seconds)

    def image_sha256(self, pid: int) -> Optional[str]:
        """SHA-256 of the executable that the process runs."""
        return self.sha256("/proc/%d/exe" % pid)

    def established(self, pids: Collection[int]) -> int:
        """The number of established TCP connections of these processes, which share one network namespace."""
        inodes = frozenset().union(*[self.socket_inodes(pid) for pid in pids])
        return len(self.among(inodes, next(iter(pids)))) if inodes else 0

    def user(self) -> int:
        """The effective user id; 0 is root."""
        return os.geteuid()

    def run(self, argv: Tuple[str, ...], timeout_s: float, env: Optional[Dict[str, str]] = None, cwd: str = "/") -> Ran:
        """Run a program to its end, with both outputs joined, in an empty environment unless one is given."""
        import subprocess

        began = time.monotonic()
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                env={} if env is None else env,
                cwd=cwd,
            )
        except subprocess.TimeoutExpired as error:
            output = (error.output or b"").decode("utf-8", "replace")
            return Ran(124, output + "(no end after %.0f s)" % timeout_s, time.monotonic() - began)
        except OSError as error:
            return Ran(127, str(error), time.monotonic() - began)
        return Ran(done.returncode, done.stdout.decode("utf-8", "replace"), time.monotonic() - began)

    def syslog(self, text: str) -> None:
        """Write a line to the host's syslog."""
        import syslog

        syslog.syslog(syslog.LOG_NOTICE | syslog.LOG_DAEMON, "fleet: " + text)
