"""Whether a process is gone: true, false, or not known from here."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from fleet.journal.process_identity import Process, is_gone, this_process

HERE = this_process()


def test_this_process_is_not_gone() -> None:
    assert HERE.pid == os.getpid()
    assert is_gone(HERE, HERE) is False


def test_a_process_survives_json_and_a_missing_field_is_empty() -> None:
    assert Process.from_plain(HERE.to_plain()) == HERE
    assert Process.from_plain({}) == Process("", 0)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"host": "another"}, None),
        ({"machine": "a machine with the same name"}, None),
        ({"space": "pid:[1]"}, None),
        ({"boot": "before the machine was started again"}, True),
        ({"start": "1"}, True),
        ({"pid": 2**22 + 1}, True),
        ({"pid": 2**22 + 1, "start": ""}, True),
        ({"start": ""}, False),
    ],
    ids=str,
)
def test_whether_a_process_is_gone_is_known_only_on_the_same_machine(change: dict[str, str], gone: bool | None) -> None:
    assert is_gone(replace(HERE, **change), HERE) is gone  # type: ignore[arg-type]


def test_a_stopped_process_is_not_gone_and_a_zombie_is() -> None:
    code = (
        "import json; from fleet.journal.process_identity import this_process\n"
        "print(json.dumps(this_process().to_plain()), flush=True); input()"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        there = Process.from_plain(json.loads(line))
        child.send_signal(signal.SIGSTOP)
        assert is_gone(there, HERE) is False
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(there, HERE) is True
