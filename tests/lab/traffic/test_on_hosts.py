"""The HTTP clients against lab hosts: a good upgrade loses no request, and an operator's mistake or a dead link does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.processes import this_process
from fleet.lab.releases.build import make_release
from fleet.lab.traffic.load import Traffic, What
from tests.support.lab.nginx_host import ESTABLISHED, SYN_SENT, NginxHost, connections_to
from tests.support.private_nginx import wait_until


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab.up(f"traffic-{os.getpid()}", 2, owner=this_process())
    try:
        yield lab
    finally:
        lab.down()


def targets(lab: Lab) -> dict[str, str]:
    return {host.name: NginxHost(host).target for host in lab.hosts}


def test_a_golden_upgrade_of_every_host_costs_no_request(lab: Lab, tmp_path: Path) -> None:
    release = make_release("new", tmp_path / "nginx")

    with Traffic(targets(lab), slow_s=2) as traffic:
        for nginx in map(NginxHost, lab.hosts):
            traffic.mark(f"before {nginx.host.name}")
            old = nginx.launch(release)
            nginx.wait_for_workers(nginx.new_master(old))
            nginx.drain(old)
            nginx.signal("QUIT", old)
            nginx.wait_for_end(old)
            traffic.mark(f"after {nginx.host.name}")
        report = traffic.stop()

    assert report.failed() == 0, str(report)
    assert report.rate >= 50
    for host in lab.hosts:
        spanned = report.between(f"before {host.name}", f"after {host.name}")
        assert spanned.requests("new", host.name) > 0
        assert report.requests("slow", host.name) > 0


def test_winch_to_the_only_master_is_seen_on_that_host_alone(lab: Lab) -> None:
    """The control: the clients that count nothing above must count this. The kernel still takes the connections."""
    nginx = NginxHost(lab.host("lab-001"))

    with Traffic(targets(lab), slow=False) as traffic:
        nginx.drain(nginx.master())
        wait_until(lambda: connections_to(lab.host("lab-001"), ESTABLISHED) > 10, "connections that no process accepts")
        report = traffic.stop()

    assert report.failed("new", "lab-001") > 0, str(report)
    assert {(each.host, each.what) for each in report.failures} == {("lab-001", What.TIMED_OUT)}, str(report)


def test_a_dead_line_is_seen_on_that_host_alone(lab: Lab) -> None:
    with Traffic(targets(lab), slow=False) as traffic:
        lab.host("lab-002").cut()
        wait_until(lambda: connections_to(lab.host("lab-002"), SYN_SENT) > 10, "connections that don't come about")
        report = traffic.stop()

    assert report.failed("new", "lab-002") > 0, str(report)
    assert {each.host for each in report.failures} == {"lab-002"}, str(report)
    assert {each.what for each in report.failures} <= {What.TIMED_OUT, What.UNREACHABLE}, str(report)
