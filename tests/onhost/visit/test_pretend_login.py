"""A login of a pretend host against the same command line in a real shell, over a real nginx: both say the same.

Both are given the bundle, and then one conversation with all requests of the story.
"""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import (
    BEAT,
    END_MARK,
    OVER,
    UPLOAD,
    Ask,
    Layout,
    Phase,
    Probe,
    Reply,
    ReplyType,
    Report,
    Request,
    Upload,
)
from fleet.onhost.wire import encode
from fleet.ssh.delivery.bundle import Bundle, bundles, own_tag, receive_text, start_text
from fleet.ssh.delivery.compress import compressed_release
from fleet.ssh.remote.start_line import login_line, missing_platform, run_script, text_script
from fleet.ssh.replies import read_reply
from tests.onhost.visit.test_dispatch import Host
from tests.onhost.visit.test_pretend_host import a_request
from tests.support.pretend.login import NO_BUNDLE, PretendHost, answer_login
from tests.support.pretend.visits import NEW

BEAT_S = 1.0
STORY = (
    ("r1", Ask.LOOK, None, Phase.OLD),
    ("r1", Ask.STAGE, None, Phase.OLD),
    ("r1", Ask.UPGRADE, None, Phase.TRIAL),
    ("r1", Ask.BAKE, Phase.TRIAL, Phase.TRIAL),
    ("r1", Ask.ROLLBACK, Phase.TRIAL, Phase.OLD),
    ("r2", Ask.UPGRADE, None, Phase.TRIAL),
    ("r2", Ask.COMMIT, Phase.TRIAL, Phase.NEW),
    ("r2", Ask.ROLLBACK, Phase.NEW, Phase.OLD),
)
"""The rollout, what is asked, the phase that the controller knows, and the phase afterwards."""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture
def host(tmp_path: Path, release: Path) -> Iterator[Host]:
    found = Host.on(tmp_path, release)
    yield found
    found.nginx.end()


async def really(line: str, *sent: bytes) -> list[bytes]:
    """The lines that this machine's shell answers. Each part is sent after the end mark of the one before."""
    running = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", line, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert running.stdin is not None
    assert running.stdout is not None
    said = []
    for part in sent:
        running.stdin.write(part)
        beating = asyncio.create_task(beat(running.stdin, part))
        async for found in running.stdout:
            said.append(found.rstrip(b"\n"))
            if said[-1] == END_MARK.encode():
                break
        beating.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await beating
    running.stdin.close()
    await running.wait()
    return said


async def beat(stdin: asyncio.StreamWriter, sent: bytes) -> None:
    """Beats while a request is answered."""
    while b'"ask":' in sent:
        stdin.write(BEAT.encode() + b"\n")
        await asyncio.sleep(BEAT_S)


async def pretended(host: PretendHost, line: str, *sent: bytes) -> list[bytes]:
    """The lines that the pretend host answers."""
    source, said = asyncio.StreamReader(), bytearray()
    source.feed_data(b"".join(sent))
    source.feed_eof()
    await answer_login(host, line, source, said.extend)
    return bytes(said).split(b"\n")[:-1]


def told(lines: list[bytes]) -> list[tuple[object, ...]]:
    """What kinds of line there are, in order; of a report, which of its fields are filled.

    Findings are left out: preflight warns of what this machine is, which a model is not.
    """
    all_told = [told_reply(read_reply(line)) if line.startswith(b"{") else (line,) for line in lines]
    return [one for one in all_told if one[0] is not ReplyType.FINDING]


def told_reply(reply: Reply) -> tuple[object, ...]:
    filled = [
        name for name, value in zip(Reply._fields, reply, strict=True) if value != Reply._field_defaults.get(name)
    ]
    return reply.type, reply.step, reply.outcome, filled, reply.report and filled_of(reply.report)


def filled_of(report: Report) -> list[str]:
    return [name for name, value in zip(Report._fields, report, strict=True) if value not in (None, "", ())]


def run_line(bundle: Bundle, host: Host) -> str:
    return login_line(run_script((bundle.key,), str(host.state_dir), None))


def story(target: str, **really: Any) -> list[bytes]:
    """What is sent for each line of the story. A request ends the one before (`OVER`)."""
    return [
        encode(adapted(a_request(ask, target, rollout, epoch=1 + number, left_at=left_at), **really)).encode() + b"\n"
        for number, (rollout, ask, left_at, _) in enumerate(STORY)
    ]


def adapted(request: Request, layout: Layout = Layout(), probes: tuple[Probe, ...] = ()) -> Request:
    return request._replace(layout=layout, options=request.options._replace(probes=probes))


def brought(release: Path, target: str, host: Host) -> bytes:
    """The release, as it follows a request that found it missing."""
    data = compressed_release(release).data
    return UPLOAD.encode() + encode(Upload(target, len(data), str(host.state_dir))).encode() + b"\n" + data


def conversation(requests: list[bytes], release: bytes) -> list[bytes]:
    """A look, a stage that finds no release, the release, and all requests again."""
    over = OVER.encode() + b"\n"
    look, stage, *_ = requests
    return [
        start_text() + look,
        over + stage,
        over + release,
        *(over * (number > 0) + one for number, one in enumerate(requests)),
    ]


def test_a_pretend_login_answers_as_a_real_one(host: Host, release: Path) -> None:
    shutil.rmtree(host.state_dir / "releases")

    told_really, told_pretended, phases = asyncio.run(play(host, release))

    assert told_pretended == told_really
    assert phases[-len(STORY) :] == [phase for *_, phase in STORY]


async def play(host: Host, release: Path) -> tuple[list[Any], list[Any], list[Phase | None]]:
    """What a real login and a pretend one say, and the pretended phases."""
    bundle = bundles()[own_tag() or ""]
    pretend, line = PretendHost("web-01"), run_line(bundle, host)
    missing, unlike = await really(line, b""), await pretended(pretend, line)
    assert missing_platform(missing[-1]) == missing_platform(unlike[-1])
    assert unlike == [b"", NO_BUNDLE]

    stored = receive_text(bundle, str(host.state_dir)) + bundle.data
    into = login_line(text_script(None))
    assert await pretended(pretend, into, stored) == await really(into, stored)

    layout = Layout(pid_file=str(host.nginx.pid_file), state_dir=str(host.state_dir))
    requests = story(host.target, layout=layout, probes=(Probe(f"http://{host.nginx.target}/health"),))
    real = await really(line, *conversation(requests, brought(release, host.target, host)))
    said = await pretended(pretend, line, *conversation(story(NEW), brought(release, NEW, host)))
    reports = [read_reply(one).report for one in said if one.startswith(b"{")]
    return told(real), told(said), [report.phase for report in reports if report is not None]
