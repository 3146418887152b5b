"""Which unit owns an nginx, and what is said where systemd can't be told. Real units: tests/lab/test_unit_follows.py."""

import pytest

from fleet.onhost.protocol import Finding
from fleet.onhost.steps.unit_follows import await_followed, follow, own_unit
from fleet.onhost.system.machine import Ran
from fleet.onhost.systemd.unit import PROPERTIES, RUNS_SYSTEMD
from tests.support.onhost.recorded import RecordedMachine, a_look, a_master, a_subject

FORKING = "Id=nginx.service\nType=forking\nPIDFile=/run/nginx.pid\nActiveState=active\n"
ONESHOT = "Id=nginx.service\nType=oneshot\nRemainAfterExit=yes\nMainPID=0\n"
OTHER = "Id=rc-local.service\nType=forking\nPIDFile=\nMainPID=0\n"
SSHD = "Id=ssh.service\nType=notify\nMainPID=99\n"
SHOW = ("systemctl", "show", "--property=" + PROPERTIES, "--", "nginx.service")


def a_host(shown: Ran) -> RecordedMachine:
    return RecordedMachine(
        texts={"/proc/812/cgroup": "0::/system.slice/nginx.service\n"}, stats={RUNS_SYSTEMD: {}}, runs={SHOW: shown}
    )


@pytest.mark.parametrize(
    ("shown", "is_own"), [(FORKING + "MainPID=7\n", True), (ONESHOT, True), (OTHER, False), (SSHD, False)]
)
def test_a_unit_owns_the_nginx_whose_pid_file_it_follows_or_that_it_started_and_left(shown: str, is_own: bool) -> None:
    instance = a_subject(a_host(Ran(0, shown, 0.1))).instance

    assert (own_unit(instance, a_look(a_master())) is not None) is is_own


def test_a_unit_that_follows_nginx_is_told_nothing() -> None:
    host, said = a_host(Ran(0, FORKING + "MainPID=812\n", 0.1)), list[Finding]()

    follow(a_subject(host).instance, said.append, a_look(a_master()))
    await_followed(a_subject(host).instance, said.append, a_look(a_master()))

    assert (said, {words[1] for words in host.ran}) == ([], {"show"})


def test_a_systemd_without_an_answer_is_asked_once_and_named_once() -> None:
    host, said = a_host(Ran(124, "(no end after 4 s)", 4.0)), list[Finding]()
    instance = a_subject(host).instance

    for _ in range(3):
        follow(instance, said.append, a_look(a_master()))

    assert [one.reason for one in said] == ["unit_unseen"]
    assert "systemctl show -p MainPID nginx.service" in said[0].remedy
    assert len(host.ran) == 1


def test_without_a_master_or_without_systemd_nothing_is_asked() -> None:
    host, said = a_host(Ran(0, ONESHOT, 0.1)), list[Finding]()
    follow(a_subject(host).instance, said.append, a_look())
    host.stats = {}
    follow(a_subject(host).instance, said.append, a_look(a_master()))

    assert (said, host.ran) == ([], [])
