"""Processes in a unit of their own. What systemd makes of them is tried in the lab (tests/lab/test_watcher.py)."""

import pytest

from fleet.onhost.system.machine import Machine, Ran
from fleet.onhost.systemd import transient
from fleet.onhost.systemd.unit import RUNS_SYSTEMD

SSH = "0::/user.slice/user-1000.slice/session-5.scope\n"
HYBRID = "12:pids:/user.slice/user-1000.slice/session-c1.scope\n1:name=systemd:/user.slice/user-1000.slice/session-c1.scope\n"
DAEMON = "0::/system.slice/ssh.service\n"
KILLS = "EnableWallMessages=no\nKillOnlyUsers=\nKillExcludeUsers=root\nKillUserProcesses=yes\n"


class Host(Machine):
    """A host with systemd, where these programs say this; a program that is not named does not answer."""

    def __init__(self, cgroup: str = SSH, **said: str) -> None:
        self.cgroup, self.said = cgroup, said
        self.ran: list[tuple[str, ...]] = []

    def read(self, path: str) -> str | None:
        return self.cgroup if path == "/proc/self/cgroup" else super().read(path)

    def exists(self, path: str) -> bool:
        return path == RUNS_SYSTEMD or super().exists(path)

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        self.ran.append(argv)
        said = self.said.get(" ".join(argv[:2]).replace("-", "_").replace(" ", "_"))
        return Ran(124, "(no end)", timeout_s) if said is None else Ran(0, said, 0.01)


@pytest.mark.parametrize("cgroup", [SSH, HYBRID])
@pytest.mark.parametrize(
    ("said", "name", "ends"),
    [
        (KILLS, "deploy", True),
        (KILLS, "root", False),
        (KILLS.replace("yes", "no"), "deploy", False),
        (
            KILLS.replace("Exclude", "exclude").replace("Only", "Only").replace("KillOnlyUsers=", "KillOnlyUsers=bob"),
            "deploy",
            False,
        ),
        (KILLS.replace("=root", "=root deploy"), "deploy", False),
    ],
)
def test_what_ends_at_logout_is_as_logind_says(cgroup: str, said: str, name: str, ends: bool) -> None:
    host = Host(cgroup, loginctl_show_user=said, loginctl_show_session=f"Name={name}\n")

    assert transient.ends_at_logout(host) is ends


def test_where_logind_does_not_answer_a_login_is_taken_to_end_what_it_leaves() -> None:
    assert transient.ends_at_logout(Host())
    assert not transient.ends_at_logout(Host(DAEMON))


def test_a_systemd_that_does_not_answer_is_asked_once() -> None:
    host = Host()

    with pytest.raises(transient.NoUnit, match="no end"):
        transient.start(host, "fleet-x.service", "x", ("/bin/true",), ())

    assert len(host.ran) == 1


def test_this_machine_says_why_it_starts_no_unit_where_systemd_is_not_pid_1() -> None:
    if transient.can_have_units(Machine()):
        transient.start(Machine(), "fleet-test.service", "x", ("/bin/true",), ())
        return
    with pytest.raises(transient.NoUnit, match="systemd-run: "):
        transient.start(Machine(), "fleet-test.service", "x", ("/bin/true",), ())
