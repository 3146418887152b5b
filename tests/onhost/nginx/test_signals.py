"""What a master hears of the signals of an upgrade: real masters, real processes, and recorded masks."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.onhost.nginx.signals import NEEDED, Hearing, hearing
from fleet.onhost.system.machine import Machine
from tests.support.deaf_nginx import that_blocks, that_does_not_handle_usr2
from tests.support.onhost.recorded import RecordedMachine
from tests.support.private_nginx import PrivateNginx, wait_until

ALL = "CHLD HUP QUIT TERM USR1 USR2 WINCH".split()
OF_NGINX = "0000000018016a07"
STATUS = "Name:\tnginx\nSigQ:\t0/100\nSigPnd:\t{}\nShdPnd:\t{}\nSigBlk:\t{}\nSigIgn:\t{}\nSigCgt:\t{}\n"
NONE = "0" * 16
USR2, WINCH = f"{1 << 11:016x}", f"{1 << 27:016x}"


@contextmanager
def a_process(prepare: Callable[[], object], waits: Callable[[], object] = signal.pause) -> Iterator[int]:
    """A process that handles what nginx handles, has prepared itself, and waits."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        for signum in NEEDED:
            signal.signal(signum, lambda *_: None)
        prepare()
        os.write(tell, b"x")
        while True:
            waits()
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_an_ordinary_master_hears_all(tmp_path: Path) -> None:
    nginx = PrivateNginx(tmp_path).start_well()
    try:
        assert hearing(Machine(), nginx.master()) == Hearing({}, ())
    finally:
        nginx.end()


def test_a_master_that_blocks_them_hears_none_and_keeps_what_it_was_sent(tmp_path: Path) -> None:
    nginx = PrivateNginx(tmp_path, that_blocks(tmp_path / "deaf")).start_well()
    master = nginx.master()
    try:
        assert hearing(Machine(), master) == Hearing(dict.fromkeys(ALL, "blocked"), ())

        os.kill(master, signal.SIGUSR2)

        assert hearing(Machine(), master).pending == ("USR2",)
        assert str(hearing(Machine(), master, [signal.SIGUSR2])) == "USR2 (blocked)"
    finally:
        nginx.end()


def test_a_master_without_a_handler_is_named_before_the_signal_ends_it(tmp_path: Path) -> None:
    nginx = PrivateNginx(tmp_path, that_does_not_handle_usr2(tmp_path / "deaf")).start_well()
    try:
        assert hearing(Machine(), nginx.master()) == Hearing({"USR2": "not handled"}, ())
    finally:
        nginx.end()


@pytest.mark.parametrize(
    ("prepare", "unheard"),
    [
        (lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN), {"CHLD": "ignored"}),
        (lambda: signal.signal(signal.SIGWINCH, signal.SIG_DFL), {"WINCH": "not handled"}),
        (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGQUIT]), {"QUIT": "blocked"}),
        (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]), {}),
    ],
)
def test_a_signal_can_be_lost_in_three_ways_and_only_those_of_an_upgrade_count(
    prepare: Callable[[], object], unheard: dict[str, str]
) -> None:
    with a_process(prepare, lambda: signal.sigwait([])) as pid:
        assert hearing(Machine(), pid) == Hearing(unheard, ())


def test_a_process_that_is_gone_is_no_finding() -> None:
    assert hearing(RecordedMachine(), 812) == Hearing({}, ())


class Looks(RecordedMachine):
    """Each look at the master finds the next of these masks; between two looks the time passes, and nothing else."""

    def __init__(self, *looks: tuple[str, str]) -> None:
        super().__init__()
        self.looks = list(looks)
        self.passed_s = 0.0

    def read(self, path: str) -> str | None:
        wchan, status = self.looks[0]
        return {"/proc/812/wchan": wchan, "/proc/812/status": status}.get(path)

    def monotonic_s(self) -> float:
        return self.passed_s

    def pause(self, seconds: float = 0.01) -> None:
        self.passed_s += seconds
        if len(self.looks) > 1:
            self.looks.pop(0)


def status(pending: str = NONE, blocked: str = NONE, ignored: str = NONE, caught: str = OF_NGINX) -> str:
    return STATUS.format(NONE, pending, blocked, ignored, caught)


WORKING = ("", status(blocked=OF_NGINX))
CALM = ("__do_sys_rt_sigsuspend", status())


@pytest.mark.parametrize(
    ("looks", "found", "passed_s"),
    [
        ([CALM], Hearing({}, ()), 0.0),
        ([WORKING, WORKING, CALM], Hearing({}, ()), 0.02),
        ([("", status(pending=USR2, blocked=USR2)), CALM], Hearing({}, ()), 0.01),
        ([("sigsuspend.isra.0", status(pending=USR2)), CALM], Hearing({}, ()), 0.01),
        ([("sigsuspend", status(blocked=USR2))], Hearing({"USR2": "blocked"}, ()), 0.0),
        ([("sigsuspend", status(USR2, USR2))], Hearing({"USR2": "blocked"}, ("USR2",)), 0.0),
        ([("0", status(blocked=WINCH))], Hearing({"WINCH": "blocked"}, ()), 3.0),
        ([("0", status(pending=USR2))], Hearing({}, ("USR2",)), 3.0),
        ([("0", status(ignored=USR2, caught=OF_NGINX))], Hearing({"USR2": "ignored"}, ()), 0.0),
    ],
)
def test_a_mask_counts_where_nginx_opens_it_and_else_when_it_stays_closed(
    looks: list[tuple[str, str]], found: Hearing, passed_s: float
) -> None:
    machine = Looks(*looks)

    assert hearing(machine, 812) == found
    assert machine.passed_s == pytest.approx(passed_s, abs=0.02)


def test_a_kernel_that_tells_no_masks_is_no_finding() -> None:
    assert hearing(Looks(("sigsuspend", "Name:\tnginx\n")), 812) == Hearing({}, ())


def test_the_masks_of_a_real_process_are_read_while_it_works() -> None:
    def works() -> None:
        wait_until(lambda: False, "an end", within_s=60)

    with a_process(lambda: None, works) as pid:
        assert hearing(Machine(), pid) == Hearing({}, ())
