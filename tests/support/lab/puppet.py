"""Runs on a lab host: sends sequences of signals to the real nginx, and records what fleet observes in each phase.

It is sent there by `tests/support/lab/carried.py` together with `fleet.onhost` and the model, reads JSON on stdin and writes
JSON to stdout. Its acts are raw signals, none of fleet's steps: it is the referee.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from fleet.onhost.nginx.observe import Observer
from fleet.onhost.observation import Master, Observation
from fleet.onhost.procedure import classify
from fleet.onhost.protocol import Layout
from fleet.onhost.system.machine import Machine

NGINX = "/usr/local/nginx/sbin/nginx"
ARGV = [NGINX, "-c", "/usr/local/nginx/conf/nginx.conf"]
LAYOUT = Layout(binary=NGINX, pid_file="/usr/local/nginx/logs/nginx.pid")
FILES = {"old": "/opt/puppet/old", "new": "/opt/puppet/new"}
PATIENCE_S = 10.0


class Puppet:
    """The nginx of this host, with strings on it."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.observer = Observer(self.machine, LAYOUT)
        self.sha256 = {name: str(self.machine.sha256(path)) for name, path in FILES.items()}
        self.held: list[socket.socket] = []

    def look(self) -> Observation:
        return self.observer.look()

    def reset(self) -> None:
        """One old master with the old file at the path, nothing else."""
        for one in self.held:
            one.close()
        self.held = []
        while True:
            pids = [
                p.pid for p in self.machine.processes() if p.title.startswith("nginx: ") or p.title == " ".join(ARGV)
            ]
            if not pids:
                break
            for pid in pids:
                self._kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        for name in (LAYOUT.pid_file, f"{LAYOUT.pid_file}.oldbin", "/usr/local/nginx/logs/error.log"):
            self.machine.unlink(str(name))
        self.put("old")
        subprocess.run(ARGV, check=True, stdin=subprocess.DEVNULL)
        self.until(lambda seen: len(seen.masters) == 1 and len(seen.masters[0].accepting) == 2, "a fresh start")

    def put(self, which: str) -> None:
        shutil.copy(FILES[which], NGINX + ".put")
        os.rename(NGINX + ".put", NGINX)

    def until(self, seen: Callable[[Observation], bool], what: str) -> Observation:
        until = time.monotonic() + PATIENCE_S
        while True:
            now = self.look()
            if seen(now):
                return now
            if time.monotonic() > until:
                raise SystemExit(f"never came: {what}; saw {now}")
            time.sleep(0.005)

    def master(self, which: str) -> Master | None:
        masters = self.look().masters
        if which == "old":
            return masters[0] if masters else None
        return masters[1] if len(masters) == 2 else None

    def signal(self, which: str, signum: signal.Signals) -> None:
        """That master has taken the signal and, where a reload is due, its old workers are gone.

        Two signals that are pending together are another history: a WINCH taken at the new master's death sends away
        the workers that the old one has just given itself.
        """
        before = self.master(which)
        if before is None:
            return
        alone = len(self.look().masters) == 1
        self._kill(before.pid, signum)
        self.until(lambda _: _at_rest(before.pid), f"that {before.pid} has taken {signum.name}")
        if signum is signal.SIGHUP and (which == "new" or alone):
            old = {worker.pid for worker in before.accepting}
            self.until(lambda _: not any(self.machine.process(pid) for pid in old), "the end of a reload")

    def _kill(self, pid: int, signum: int) -> None:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            return

    def hold(self, which: str) -> None:
        """A slow download on a worker of that master: it will have to drain."""
        workers = {worker.pid for worker in (self.master(which) or self.look().masters[0]).accepting}
        while True:
            one = socket.create_connection(("127.0.0.1", 80))
            one.sendall(b"GET /slow.bin HTTP/1.1\r\nHost: lab\r\n\r\n")
            one.recv(100)
            inode = self.machine.peer_inodes([one])[0]
            if any(inode in self.machine.socket_inodes(pid) for pid in workers):
                self.held.append(one)
                return
            one.close()

    def sketch(self) -> list[object]:
        """What a history compares: both phases, both masters' accepting workers, orphans, the pid files."""
        seen = self.look()
        counts = [len(master.accepting) for master in seen.masters]
        named = [seen.pid_file_pid, seen.oldbin_pid if seen.oldbin_exists else None]
        names = {master.pid: n for n, master in enumerate(seen.masters)}
        phases = [classify(seen, self.sha256[name]).value for name in ("old", "new")]
        return [*phases, counts, len(seen.orphans), [names.get(pid or -1) for pid in named] if counts else None]


def _at_rest(pid: int) -> bool:
    """Whether this master waits for its next signal, or is gone.

    nginx blocks its signals wherever it works and opens them in `sigsuspend` alone; in a handler at least one is blocked.
    """
    try:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
    except (FileNotFoundError, ProcessLookupError):
        return True
    return fields["State"].split()[0] in "ZX" or not any(
        int(fields[name], 16) for name in ("SigPnd", "ShdPnd", "SigBlk")
    )


ACTS: dict[str, Callable[[Puppet], None]] = {
    "put_old": lambda puppet: puppet.put("old"),
    "put_new": lambda puppet: puppet.put("new"),
    "usr2_old": lambda puppet: puppet.signal("old", signal.SIGUSR2),
    "winch_old": lambda puppet: puppet.signal("old", signal.SIGWINCH),
    "winch_new": lambda puppet: puppet.signal("new", signal.SIGWINCH),
    "hup_old": lambda puppet: puppet.signal("old", signal.SIGHUP),
    "hup_new": lambda puppet: puppet.signal("new", signal.SIGHUP),
    "quit_old": lambda puppet: puppet.signal("old", signal.SIGQUIT),
    "quit_new": lambda puppet: puppet.signal("new", signal.SIGQUIT),
    "kill_old": lambda puppet: puppet.signal("old", signal.SIGKILL),
    "kill_new": lambda puppet: puppet.signal("new", signal.SIGKILL),
    "hold_old": lambda puppet: puppet.hold("old"),
    "hold_new": lambda puppet: puppet.hold("new"),
}


def play(puppet: Puppet, history: list[dict[str, object]]) -> dict[str, object] | None:
    """`None` when nginx went where the model says after every act, else where it did not."""
    puppet.reset()
    for number, scene in enumerate(history):
        ACTS[str(scene["act"])](puppet)
        until = time.monotonic() + PATIENCE_S
        while (got := puppet.sketch()) != scene["expected"]:
            if time.monotonic() > until:
                return {"after": number, "act": scene["act"], "expected": scene["expected"], "got": got}
            time.sleep(0.005)
    return None


RECORDED: dict[str, tuple[tuple[str, ...], str]] = {
    "old": ((), "OLD"),
    "swapped": (("put_new",), "SWAPPED"),
    "overlap": (("put_new", "usr2_old"), "OVERLAP"),
    "overlap-old-doubled": (("put_new", "usr2_old", "hup_old"), "OVERLAP"),
    "trial": (("put_new", "usr2_old", "winch_old"), "TRIAL"),
    "trial-draining": (("hold_old", "put_new", "usr2_old", "winch_old"), "TRIAL"),
    "retiring": (("hold_old", "put_new", "usr2_old", "winch_old", "quit_old"), "RETIRING"),
    "dismissing": (("put_new", "usr2_old", "hold_new", "quit_new"), "DISMISSING"),
    "stranded": (("put_new", "usr2_old", "winch_old", "winch_new"), "STRANDED"),
    "stranded-alone": (("winch_old",), "STRANDED"),
    "new": (("put_new", "usr2_old", "winch_old", "quit_old"), "NEW"),
    "new-with-orphans": (("put_new", "usr2_old", "kill_old"), "NEW"),
    "down": (("quit_old",), "DOWN"),
    "down-with-orphans": (("kill_old",), "DOWN"),
    "foreign": (("usr2_old",), "FOREIGN"),
}
"""Name -> the acts that lead there from an old master alone, and the phase it is, seen from the new release."""


def record(puppet: Puppet, name: str) -> str:
    """The observation of real nginx in that phase, as JSON."""
    from fleet.onhost.wire import encode

    acts, phase = RECORDED[name]
    puppet.reset()
    for act in acts:
        before = puppet.sketch()
        ACTS[act](puppet)
        if not act.startswith("hold"):
            puppet.until(lambda _, seen=before: puppet.sketch() != seen, f"{name}: an effect of {act}")  # type: ignore[misc]
        _settle(puppet)
    seen = puppet.until(lambda look: classify(look, puppet.sha256["new"]).value == phase, f"{name} as {phase}")
    return encode(seen)


def _settle(puppet: Puppet) -> None:
    """nginx has come to rest: three looks in a row show the same processes."""
    same, last = 0, None
    while same < 3:
        seen = puppet.look()
        same, last = (same + 1 if seen == last else 0), seen
        time.sleep(0.02)


def main() -> None:
    puppet = Puppet()
    asked = json.load(sys.stdin)
    if asked["do"] == "play":
        json.dump([play(puppet, history) for history in asked["histories"]], sys.stdout)
    else:
        json.dump({"sha256": puppet.sha256, "seen": {name: record(puppet, name) for name in RECORDED}}, sys.stdout)
    puppet.reset()


if __name__ == "__main__":
    main()
