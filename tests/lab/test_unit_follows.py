"""The systemd unit follows the serving master, whatever others do to it while a host is held; where it can't, fleet says so.

Debian's unit reloads and stops by nginx and the pid file. The other one, as Red Hat's, signals `$MAINPID`.
"""

import urllib.request
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PACKAGED
from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from fleet.lab.traffic.load import Traffic
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import Ran, fleet, status

QUICK = ("-y", "--bake", "0s", "--settle", "300ms", "--batches", "100%", "--output", "jsonl")
HELD = (*QUICK, "--commit", "never")
NEWEST = f"$(cat {PACKAGED.pid_file})"
OLD = f"$(cat {PACKAGED.pid_file}.oldbin)"
GONE = "while kill -0 $p 2>&-; do sleep 0.02; done"
BROKEN = f"echo nonsense >>{PACKAGED.config}"
MENDED = f"sed -i /nonsense/d {PACKAGED.config}"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(2, {"lab-001": "systemd", "lab-002": "systemd-mainpid"})


def hold(lab: Lab, release: Path, *words: str) -> None:
    ran = fleet(lab, "upgrade", str(release), *HELD, *words)
    assert ran.code == 0, ran.said


def go_back(lab: Lab) -> Ran:
    ran = fleet(lab, "rollback", "-y", "--output", "jsonl")
    assert ran.code == 0, ran.said
    return ran


def said(ran: Ran) -> set[str]:
    return {str(event.get("reason")) for event in ran.events} - {"None"}


def shown(host: LabHost, unit: str = "nginx") -> tuple[int, str]:
    """MainPID and ActiveState, as systemd has them."""
    main, active = host.sh(f"systemctl show --value -p MainPID -p ActiveState '{unit}'").split()
    return int(main), active


def serving(host: LabHost) -> int:
    """The pid in the pid file; it is that of a living process."""
    return int(host.sh(f"p={NEWEST}; kill -0 $p; echo $p"))


def header(host: LabHost) -> str | None:
    with urllib.request.urlopen(f"http://{host.address}/", timeout=30) as answer:
        found: str | None = answer.headers["X-Held"]
        return found


def traffic_of(lab: Lab) -> Traffic:
    return Traffic({host.name: f"{host.address}:80" for host in lab.hosts})


def test_after_a_reload_while_held_and_a_rollback_no_reload_and_no_restart_is_an_outage(
    lab: Lab, release: Path
) -> None:
    masters = {host.name: serving(host) for host in lab.hosts}
    with traffic_of(lab) as traffic:
        hold(lab, release)
        for host in lab.hosts:
            host.sh(
                f"sed -i 's/http {{/http {{ add_header X-Held yes;/' {PACKAGED.config}; grep -q X-Held {PACKAGED.config}"
            )
            host.sh(f"o={NEWEST}; before=$(pgrep -P $o); systemctl reload nginx; for p in $before; do {GONE}; done")
            assert status(lab)[host.name]["phase"] == "TRIAL", (
                "the reload reached the master that serves, not the old one"
            )
        assert said(go_back(lab)) == set()
        for host in lab.hosts:
            assert serving(host) == masters[host.name]
            assert shown(host) == (masters[host.name], "active")
            assert header(host) == "yes", "what was reloaded while held is served after the rollback"
            host.sh("systemctl reload nginx")
            assert shown(host) == (masters[host.name], "active")
            host.sh(f"{BROKEN}; systemctl reload nginx || true; {MENDED}")
            assert shown(host) == (masters[host.name], "active")
        report = traffic.stop()
    assert (report.failed(), report.rate >= 20) == (0, True), str(report)
    for host in lab.hosts:
        host.sh("systemctl restart nginx")
        assert shown(host) == (serving(host), "active")
        host.sh("systemctl stop nginx; ! pgrep -x nginx; systemctl start nginx")
        assert shown(host) == (serving(host), "active")


@pytest.mark.parametrize(
    "guard",
    [pytest.param((), id="guarded"), pytest.param(("--no-guard",), id="not guarded", marks=pytest.mark.long)],
)
def test_a_main_process_that_is_gone_is_seen_and_corrected_by_the_line_of_status_and_by_the_next_visit(
    lab: Lab, release: Path, guard: tuple[str, ...]
) -> None:
    masters = {host.name: serving(host) for host in lab.hosts}
    hold(lab, release, *guard)
    for host in lab.hosts:
        host.sh(
            f"systemctl reload nginx; p={NEWEST}; [ $(systemctl show --value -p MainPID nginx) = $p ]; kill -KILL $p"
        )
        host.sh(f"until [ $(cat {PACKAGED.pid_file}) = {masters[host.name]} ]; do sleep 0.02; done")
    lines = {name: one["unit"] for name, one in status(lab).items()}
    assert [unit["follows"] for unit in lines.values()] == [False, False], lines
    by_hand, by_fleet = lab.hosts
    text = fleet(lab, "status").out
    cure = next(line for line in text.split("on the host: ") if line.startswith("mkdir -p")).splitlines()[0]
    assert f"--pid={masters[by_hand.name]}" in cure
    by_hand.sh(cure)
    assert shown(by_hand) == (masters[by_hand.name], "active")

    assert "unit_corrected" in said(go_back(lab))

    assert shown(by_fleet) == (masters[by_fleet.name], "active")
    for host in lab.hosts:
        assert host.sh("ls /run/systemd/system/nginx.service.d 2>&- || true") == ""


def test_the_unit_follows_when_a_master_is_killed_while_held_and_after_the_commit(lab: Lab, release: Path) -> None:
    hold(lab, release)
    one, other = lab.hosts
    one.sh(
        f"p={OLD}; kill -KILL $p; {GONE}; until [ $(systemctl show --value -p MainPID nginx) = {NEWEST} ]; do :; done"
    )
    other.sh(f"o={OLD}; p={NEWEST}; kill -KILL $p; until [ $(cat {PACKAGED.pid_file}) = $o ]; do sleep 0.02; done")
    assert shown(other)[0] == serving(other)
    go_back(lab)
    hold(lab, release)

    ran = fleet(lab, "commit", "-y", "--output", "jsonl")

    assert (ran.code, said(ran)) == (0, set()), ran.said
    for host in lab.hosts:
        assert shown(host) == (serving(host), "active")
        assert host.sh("ls /run/systemd/system/nginx.service.d 2>&- || true") == ""
    go_back(lab)
    assert [shown(host) for host in lab.hosts] == [(serving(host), "active") for host in lab.hosts]


def test_a_systemd_that_hangs_or_can_not_be_told_does_not_hold_up_a_rollback(lab: Lab, release: Path) -> None:
    hangs, deaf = lab.hosts
    masters = {host.name: serving(host) for host in lab.hosts}
    hold(lab, release)
    for host in lab.hosts:
        host.sh("systemctl reload nginx")
    hangs.sh("printf '#!/bin/sh\\nexec sleep 1000\\n' >/usr/local/bin/s; chmod 755 /usr/local/bin/s; "
             "mount --bind /usr/local/bin/s /usr/bin/systemctl")  # fmt: skip
    deaf.sh(
        "rm -r /run/systemd/system/nginx.service.d; systemctl daemon-reload; mv /run/systemd/notify /run/systemd/was"
    )

    ran = go_back(lab)

    assert {"unit_unseen", "unit_main_pid_stale"} <= said(ran), ran.said
    assert all("systemctl reload" not in event.get("remedy", "") for event in ran.events)
    took = [event["took_s"] for event in ran.events if event.get("type") == "visit_ended"]
    assert max(took, default=99) < 15, took
    hangs.sh("umount /usr/bin/systemctl")
    deaf.sh("mv /run/systemd/was /run/systemd/notify")
    assert {host.name: serving(host) for host in lab.hosts} == masters
    hold(lab, release)
    go_back(lab)
    assert [shown(host) for host in lab.hosts] == [(masters[host.name], "active") for host in lab.hosts]
