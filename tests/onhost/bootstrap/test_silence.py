"""A link that was cut says nothing, for hours: whatever waits on a host for the laptop's first words gives up by itself."""

import signal
import subprocess
import sys
from pathlib import Path

WAITS_FOR_A_REQUEST = "from fleet.onhost import __main__, conversation; conversation.REQUEST_S = 1; __main__.main([])"
WAITS_FOR_A_BUNDLE = (
    "from fleet.onhost.bootstrap import receive; receive.IDLE_S = 1; receive.main({folder!r}, 'key', 'ab', 1000)"
)
# A bundle of two bytes, of which each is waited for.
COUNTS_ITS_WAITS = """
import hashlib, signal
from fleet.onhost.bootstrap import receive
alarm = signal.alarm
signal.alarm = lambda seconds: seconds and print("waiting", flush=True) or alarm(60 if seconds else 0)
receive.main({folder!r}, 'key', hashlib.sha256(b'xy').hexdigest(), 2)
"""


def ended(code: str, first: bytes = b"") -> tuple[int, bytes]:
    """How a script ended whose stdin stays open and silent after the first bytes, and what it said."""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(first)
        process.stdin.flush()
        said = process.stdout.read()
        return process.wait(), said


def test_a_step_script_without_a_request_ends() -> None:
    code, said = ended(WAITS_FOR_A_REQUEST)

    assert code == -signal.SIGALRM
    assert b"hello" in said


def test_half_a_request_is_none() -> None:
    assert ended(WAITS_FOR_A_REQUEST, b'{"protocol": 2, ')[0] == -signal.SIGALRM


def test_half_a_bundle_is_thrown_away(tmp_path: Path) -> None:
    code, said = ended(WAITS_FOR_A_BUNDLE.format(folder=str(tmp_path)), b"x" * 100)

    assert code == 0
    assert b"fleet-failed" in said
    assert b"nothing more came for 1 s" in said
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_every_byte_that_comes_is_a_sign_of_life(tmp_path: Path) -> None:
    """A slow laptop sends less in a minute than is read at once."""
    code = COUNTS_ITS_WAITS.format(folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for byte in (b"x", b"y"):
            assert process.stdout.readline() == b"waiting\n"
            process.stdin.write(byte)
            process.stdin.flush()
        assert process.stdout.read().splitlines()[-1] == b"fleet-stored"
