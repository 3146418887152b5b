"""Runs on a lab host: one visit to the nginx there, forward or back, with a line of shell run before and after a signal.

It reads in JSON on stdin what to do, and prints in JSON on stdout how the visit ended and which reasons it reported.
"""

import json
import os
import shutil
import signal
import subprocess
import sys

from fleet.onhost.protocol import MAY_DO, PROTOCOL, Ask, Goal, Layout, Options, Reply, ReplyType, Request, Rest
from fleet.onhost.state.store import Store
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.dispatch import serve


class Spoilt(Machine):
    """Shell is run once just before that signal is sent, and once just after it."""

    def __init__(self, at: int, before: str, after: str) -> None:
        self.at = at
        self.before = before
        self.after = after

    def signal(self, pid: int, start: int, signum: int) -> None:
        if signum != self.at:
            super().signal(pid, start, signum)
            return
        before, after, self.at = self.before, self.after, 0
        run_shell(before, pid)
        super().signal(pid, start, signum)
        run_shell(after, pid)


def run_shell(script: str, pid: int) -> None:
    subprocess.run(["/bin/sh", "-euc", script], check=True, env={**os.environ, "PID": str(pid)})


def main() -> None:
    asked = json.load(sys.stdin)
    machine = Spoilt(signal.Signals[asked["at"]], asked["before"], asked["after"])
    layout = Layout(binary=asked["binary"], pid_file=asked["pid_file"])
    target = str(machine.sha256(asked["release"]))
    stored = Store(machine, layout.state_dir).release(target)
    os.makedirs(os.path.dirname(stored), mode=0o700, exist_ok=True)
    shutil.copy(asked["release"], stored)
    options = Options(settle_s=0.3, allow=tuple(asked["allow"]))
    ask = Ask(asked["ask"])
    goal = Goal(target, Rest.HELD) if ask is Ask.UPGRADE else None
    back = ask is Ask.ROLLBACK
    request = Request(
        PROTOCOL, ask, asked["rollout"], asked["epoch"], "ada", goal, MAY_DO[ask], layout, options, take_over=back
    )
    said: list[str] = []

    def say(reply: Reply) -> None:
        if reply.type is ReplyType.FINDING:
            said.append(str(reply.reason))

    end, report = serve(machine, request, say, lambda: None)
    told = {"outcome": end.outcome.value, "reason": end.reason, "message": end.message, "remedy": end.remedy}
    print(json.dumps({**told, "said": said, "phase": report.phase.value if report else None}))


if __name__ == "__main__":
    main()
