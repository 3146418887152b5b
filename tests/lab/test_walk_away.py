"""Commit and walk away, on a real host: it retires its old master by itself once a client has finished its download."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import agrees, fleet, look, sha256, status

BASE = sha256(DEFAULT_BASE)
UPGRADE = ("-y", "--settle", "500ms", "--batches", "100%", "--bake", "0s")
HANGS_S = 90.0
WATCHERS = "ps -eo args= | grep -c '[w]atch /var/lib/fleet' || true"


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(1)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """One host on the release before, again after each test, without a watcher."""
    yield hosts
    fleet(hosts, "rollback", "-y", "--cut", "--drain-timeout", "1s")
    agrees(hosts, "OLD", BASE)
    wait_until(lambda: hosts.hosts[0].sh(WATCHERS).strip() == "0", "no watcher is left")
    assert look(hosts.hosts[0]).stray == ()


class Download:
    """A client that has begun a download and reads on when it is told to."""

    def __init__(self, host: LabHost) -> None:
        self.connection = socket.socket()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.connection.settimeout(30.0)
        self.connection.connect((host.address, 80))
        self.connection.sendall(b"GET /big.bin HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
        head, _, self.body = self.connection.recv(4096).partition(b"\r\n\r\n")
        self.wanted = next(int(line.split()[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))

    def rest(self) -> int:
        """How many bytes of the body are missing at its end, after all has been read."""
        got = len(self.body)
        while got < self.wanted:
            part = self.connection.recv(1 << 20)
            if not part:
                break
            got += len(part)
        return self.wanted - got


@contextmanager
def download(lab: Lab) -> Iterator[Download]:
    found = Download(lab.hosts[0])
    try:
        yield found
    finally:
        found.connection.close()


def wait_until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + HANGS_S
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def journal(host: LabHost) -> list[dict[str, Any]]:
    """The host's own journal."""
    return [json.loads(line) for line in host.sh("cat /var/lib/fleet/instances/*/journal.jsonl").splitlines()]


def has_ended(host: LabHost) -> bool:
    """Whether the retirement that was begun last is over, by the host's journal."""
    return bool([one["retirement"] for one in journal(host) if "retirement" in one][-1] == "ended")


def left(lab: Lab, release: Path, *words: str) -> None:
    """The host is upgraded, and the commit was left to it."""
    ran = fleet(lab, "upgrade", str(release), *UPGRADE, "--commit", "when-drained", *words)
    assert ran.code == 0, ran.said
    assert "Left to lab-001: once the old connections have ended (1 connection on 1 old worker now)" in ran.said


def test_the_host_retires_its_old_master_by_itself_when_the_download_has_ended(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    with Traffic({host.name: f"{host.address}:80"}, slow=False) as traffic:
        with download(lab) as client:
            ran = fleet(lab, "upgrade", str(release), *UPGRADE, "--commit", "never")
            assert ran.code == 0, ran.said
            ran = fleet(lab, "commit", "-y", "--when-drained", "--within", "1h")
            assert ran.code == 0, ran.said
            told = status(lab)[host.name]
            assert (told["phase"], told["state"], told["lease_left_s"]) == ("TRIAL", "begun", None)
            assert (told["drain"]["workers"], told["drain"]["connections"]) == (1, 1)
            assert 3000.0 < told["retirement"]["left_s"] <= 3600.0
            assert told["watcher"]["is_alive"]
            assert "retires its old master by itself" in fleet(lab, "status").out

            assert client.rest() == 0
        wait_until(lambda: has_ended(host), "the retirement")
        report = traffic.stop()

    assert report.failed("new") == 0, str(report)
    agrees(lab, "NEW", sha256(release))
    told = status(lab)[host.name]
    assert (told["state"], told["retirement"], told["watcher"]) == ("committed", None, None)
    again = fleet(lab, "commit", "-y")
    assert again.code == 0, again.said


def test_until_then_a_rollback_is_two_signals_and_the_download_goes_on(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    with download(lab) as client:
        left(lab, release)
        told = status(lab)[host.name]
        old, new = (one["pid"] for one in told["masters"])

        ran = fleet(lab, "rollback", "-y")

        assert ran.code == 0, ran.said
        agrees(lab, "OLD", BASE)
        assert [(one["signal"], one["pid"]) for one in journal(host) if "signal" in one][-2:] == [
            ("SIGHUP", old),
            ("SIGQUIT", new),
        ]
        assert status(lab)[host.name]["retirement"] is None
        assert client.rest() == 0


def test_at_the_deadline_the_host_stays_held_and_says_what_to_type(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    with download(lab) as client:
        left(lab, release, "--within", "2s")
        wait_until(lambda: has_ended(host), "the deadline")

        told = status(lab)[host.name]
        assert (told["phase"], told["state"], told["retirement"]) == ("TRIAL", "begun", None)
        assert "1 old worker still drain" in told["why"]
        assert "`fleet commit --cut`" in told["why"]

        ran = fleet(lab, "commit", "-y", "--cut", "--drain-timeout", "1s")
        assert ran.code == 0, ran.said
        assert client.rest() > 0
    agrees(lab, "NEW", sha256(release))
    assert status(lab)[host.name]["why"] is None


@pytest.mark.long
def test_at_the_deadline_the_host_cuts_what_is_left_if_it_is_told_to(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    with download(lab) as client:
        left(lab, release, "--within", "2s", "--cut")
        wait_until(lambda: has_ended(host), "the deadline")
        assert client.rest() > 0

    agrees(lab, "NEW", sha256(release))
    assert status(lab)[host.name]["state"] == "committed"
    cut = [one["message"] for one in journal(host) if one.get("finding") == "connections_cut"]
    assert cut[-1].endswith("connections cut: 1.")


@pytest.mark.long
def test_a_reboot_voids_what_was_left_to_the_host(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    with download(lab):
        left(lab, release)
        host.kill()
        host.boot()

    told = status(lab)[host.name]
    assert (told["phase"], told["unconfirmed"], told["retirement"]) == ("NEW", True, None)


@pytest.mark.long
def test_a_logout_that_ends_everything_else_does_not_end_the_watcher(make_lab: MakeLab, release: Path) -> None:
    lab = make_lab(1, {"lab-001": "systemd-sudo"})
    host = lab.hosts[0]
    with download(lab) as client:
        left(lab, release)
        assert status(lab)[host.name]["unit"]["guard"] is not None
        wait_until(lambda: not host.sh("loginctl list-sessions --no-legend").strip(), "every login has ended")
        assert client.rest() == 0
    wait_until(lambda: has_ended(host), "the retirement")

    agrees(lab, "NEW", sha256(release))
    told = status(lab)[host.name]
    assert (told["state"], told["retirement"], told["unit"]["guard"]) == ("committed", None, None)
    main_pid = host.sh("systemctl show -p MainPID --value nginx").strip()
    assert [str(one["pid"]) for one in told["masters"]] == [main_pid]
