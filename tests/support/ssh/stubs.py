"""Step scripts that only send replies, so that a conversation can be tested without an nginx."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fleet.onhost
from fleet.events import Event, EventType
from fleet.host import Host
from fleet.onhost.protocol import PROTOCOL, Ask, Goal, Options, Outcome, Request, Rest
from fleet.ssh.delivery.bundle import GENERIC, Bundle, build
from fleet.task import Deadlines, HostOutcome, HostTask

TARGET = "ab" * 32
# Long enough for a machine that has other things to do; a test of a deadline shortens that one.
QUICK = Deadlines(connect_s=30, banner_s=30, auth_s=20, channel_s=20, silence_s=30, transfer_idle_s=20)
STUB = """
import sys, time
from fleet.onhost.protocol import *
from fleet.onhost.wire import decode, encode


def say(kind, **values):
    print(encode(Reply(kind, **values)), flush=True)


def main():
    say(ReplyType.HELLO)
    request = decode(Request, sys.stdin.buffer.readline().decode())
{body}


def take_release(path):
    # What follows the answer that the release is missing: its bytes, and the request once more.
    lines = sys.stdin.buffer
    while lines.readline().decode().strip() not in (OVER, ""):
        pass
    announced = lines.readline().decode()
    if not announced.startswith(UPLOAD):
        sys.exit()
    data = lines.read(decode(Upload, announced[len(UPLOAD):]).size_bytes)
    try:
        open(path, "wb").write(data)
        end()
    except OSError as error:
        end(Outcome.FAILED, message=str(error))
    return lines.readline()


def end(outcome=Outcome.DONE, **values):
    say(ReplyType.OUTCOME, outcome=outcome, **values)
    print(END_MARK, flush=True)
"""

FINE = """
say(ReplyType.STEP_STARTED, step=Step.SWAP)
say(ReplyType.STEP_ENDED, step=Step.SWAP, outcome=Outcome.DONE, message="swapped", took_s=0.25)
say(ReplyType.FINDING, reason="package_owned", severity=Severity.WARNING, message="m", remedy="r", overridable=True)
end()
"""


def stub(folder: Path, body: str) -> Mapping[str, Bundle]:
    """A bundle whose `main` sends HELLO, reads the request and runs `body`. Its psutil is empty, for speed."""
    package = folder / "onhost"
    package.mkdir(parents=True)
    source = Path(fleet.onhost.__file__).parent
    for name in ("__init__.py", "protocol.py", "views.py", "wire.py"):
        shutil.copy(source / name, package / name)
    for name in ("bootstrap", "reasons"):
        shutil.copytree(source / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    (package / "__main__.py").write_text(STUB.format(body=indented))
    return {GENERIC: build(GENERIC, package, {"psutil/__init__.py": b""})}


def a_task(
    host: Host, ask: Ask = Ask.LOOK, *, rollout: str = "r-1", deadlines: Deadlines = QUICK, release: Path | None = None
) -> HostTask:
    """A visit of `host`."""
    request = Request(
        protocol=PROTOCOL,
        ask=ask,
        rollout=rollout,
        epoch=1,
        operator="ann@laptop",
        goal=Goal(TARGET, Rest.HELD),
        allowed=(),
        layout=host.layout,
        options=Options(),
    )
    return HostTask(host, request, batch=1, release_path=str(release) if release else None, deadlines=deadlines)


def of(outcome: HostOutcome) -> tuple[Outcome, str | None]:
    """A visit's outcome and reason."""
    return outcome.outcome, outcome.reason


@dataclass
class Heard:
    """A sink that keeps its events."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def types(self) -> list[EventType]:
        return [event.type for event in self.events]
