"""The main job under load: six hosts are upgraded, committed and rolled back, held and rolled back: no request is lost."""

from pathlib import Path

import pytest

from fleet.lab.hosts.nginx import PID_FILE
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.nginx_host import ESTABLISHED, NginxHost, connections_to
from tests.support.lab.operator import agrees, fleet, look, sha256
from tests.support.private_nginx import wait_until

RELOADS = 4  # about as often as the story lets a generation of workers go
BASE = sha256(DEFAULT_BASE)


@pytest.fixture(scope="module")
def six(make_lab: MakeLab) -> Lab:
    return make_lab(6)


def targets(lab: Lab) -> dict[str, str]:
    return {host.name: f"{host.address}:80" for host in lab.hosts}


def test_the_whole_story_loses_no_request(six: Lab, release: Path) -> None:
    """Upgrade, commit, rollback after commit, upgrade held, rollback while held; then a plain reload beside it."""
    new = sha256(release)
    with Traffic(targets(six)) as traffic:
        traffic.mark("story")
        _story(six, release, new)
        traffic.mark("reload")
        for _ in range(RELOADS):
            for host in six.hosts:
                host.sh(f"kill -HUP $(cat {PID_FILE})")
            for host in six.hosts:
                host.sh("while ps -eo args= | grep -q '[i]s shutting down'; do sleep 0.1; done", timeout_s=60)
        traffic.mark("end")
        report = traffic.stop()

    print(f"the story:\n{report.between('story', 'reload')}\na plain reload:\n{report.between('reload', 'end')}")
    assert report.failed("new") == 0, str(report)
    assert report.failed("slow") == 0, str(report)
    assert report.rate >= 50, str(report)
    assert report.withheld == 0, str(report)
    reloaded = report.between("reload", "end")
    assert report.failed("keepalive") == 0, f"{report}\n\nof these a plain reload:\n{reloaded}"


def _story(lab: Lab, release: Path, new: str) -> None:
    agrees(lab, "OLD", BASE)
    _run(lab, 0, "upgrade", str(release), "-y", "--batches", "1,2,3", "--bake", "1s", "--commit", "never")
    agrees(lab, "TRIAL", new)
    _run(lab, 0, "commit", "-y")
    agrees(lab, "NEW", new)
    _run(lab, 0, "rollback", "-y")
    agrees(lab, "OLD", BASE)
    _run(lab, 0, "upgrade", str(release), "-y", "--batches", "100%", "--bake", "1s", "--commit", "never")
    agrees(lab, "TRIAL", new)
    _run(lab, 0, "rollback", "-y")
    agrees(lab, "OLD", BASE)
    for host in lab.hosts:
        assert look(host).stray == (), host.name


def _run(lab: Lab, code: int, *words: str) -> None:
    ran = fleet(lab, *words)
    assert ran.code == code, ran.said


def test_the_same_clients_count_the_requests_that_an_outage_loses(six: Lab) -> None:
    """The control: WINCH to the only master. Clients that see no outage here prove nothing above."""
    nginx = NginxHost(six.hosts[0])
    with Traffic({"one": nginx.target}, slow=False) as traffic:
        nginx.drain(nginx.master())
        wait_until(lambda: connections_to(nginx.host, ESTABLISHED) > 10, "connections that no worker accepts")
        report = traffic.stop()
        nginx.signal("HUP", nginx.master())

    assert report.failed("new") > 0
