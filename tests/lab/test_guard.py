"""The guard: a held nginx is neither stopped nor restarted by others, and no guard is left when the hold is over."""

from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PACKAGED
from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from tests.lab.conftest import MakeLab
from tests.lab.test_unit_follows import NEWEST, QUICK, go_back, hold, said, serving, shown, traffic_of
from tests.support.lab.operator import fleet, status

DROP_IN = "/run/systemd/system/nginx.service.d/zz-fleet.conf"
REFUSED = "Operation refused"
ESCAPED = r"web\x2dfront@a.service"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(2, {"lab-001": "systemd-killmode-process", "lab-002": "systemd-mainpid"})


def guards(host: LabHost) -> str:
    return host.sh("ls /run/systemd/system/*.d/zz-fleet.conf 2>&- || true").strip()


def test_a_held_host_is_neither_stopped_nor_restarted_and_loses_nothing(lab: Lab, release: Path) -> None:
    with traffic_of(lab) as traffic:
        hold(lab, release)
        for host in lab.hosts:
            before = shown(host)
            for word in ("restart", "stop", "try-restart"):
                assert REFUSED in host.sh(f"systemctl {word} nginx 2>&1 && exit 1 || true"), word
            assert shown(host) == before
            assert f"rollout {status(lab)[host.name]['rollout']} by " in host.sh("systemctl cat nginx")
        report = traffic.stop()
    assert (report.failed(), report.rate >= 20) == (0, True), str(report)
    assert fleet(lab, "status").out.count("Guarded: `systemctl restart nginx`") == 2
    assert {one["unit"]["guard"] for one in status(lab).values()} == {DROP_IN}

    go_back(lab)

    assert [guards(host) for host in lab.hosts] == ["", ""]
    for host in lab.hosts:
        host.sh("systemctl restart nginx")
        assert shown(host) == (serving(host), "active")


def test_the_guard_goes_with_the_lease_with_undo_and_by_the_line_that_status_prints(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "upgrade", str(release), *QUICK, "--commit", "never", "--lease", "10s")
    assert ran.code == 0, ran.said
    by_undo, by_lease = lab.hosts
    by_undo.sh(str(status(lab)[by_undo.name]["undo"]))
    by_lease.sh(f"until [ ! -e {DROP_IN} ]; do sleep 0.05; done", timeout_s=60)
    assert [guards(host) for host in lab.hosts] == ["", ""]
    assert {one["phase"] for one in status(lab).values()} == {"OLD"}

    hold(lab, release)
    by_undo.sh(f"cp {DROP_IN} /root/kept")
    go_back(lab)
    by_undo.sh(f"mkdir -p $(dirname {DROP_IN}); cp /root/kept {DROP_IN}; systemctl daemon-reload")
    text = fleet(lab, "status").out
    assert "still guarded" in text
    line = next(part for part in text.split("on the host: ") if part.startswith("rm /run")).splitlines()[0]
    by_undo.sh(f"{line}; systemctl restart nginx")


@pytest.mark.long
def test_without_a_guard_preflight_says_what_a_restart_would_do_and_one_that_fails_does_not_stop_the_upgrade(
    lab: Lab, release: Path
) -> None:
    ran = fleet(lab, "upgrade", str(release), *QUICK, "--commit", "never", "--no-guard")
    assert "no_guard" in said(ran)
    assert [guards(host) for host in lab.hosts] == ["", ""]
    go_back(lab)
    for host in lab.hosts:
        host.sh("mount --bind /run/systemd/system /run/systemd/system; mount -o remount,bind,ro /run/systemd/system")

    ran = fleet(lab, "upgrade", str(release), *QUICK, "--commit", "never")

    assert ran.code == 0, ran.said
    assert {"guard_impossible", "unguarded"} <= said(ran)
    go_back(lab)
    for host in lab.hosts:
        host.sh("umount /run/systemd/system")


def test_a_host_that_went_down_while_held_loses_its_guard_at_the_next_visit(lab: Lab, release: Path) -> None:
    hold(lab, release)
    host = lab.hosts[1]
    host.sh("systemctl kill --signal=KILL nginx; while pgrep -x nginx; do sleep 0.02; done")
    assert guards(host) == DROP_IN

    assert fleet(lab, "rollback", "-y", "--output", "jsonl").code == 4

    assert guards(host) == ""
    host.sh("systemctl start nginx")
    assert shown(host) == (serving(host), "active")


def test_a_unit_that_is_masked_while_held_is_not_committed_and_goes_back(lab: Lab, release: Path) -> None:
    hold(lab, release)
    reloaded = lab.hosts[1]
    reloaded.sh("systemctl reload nginx")
    for host in lab.hosts:
        host.sh("systemctl mask nginx")

    ran = fleet(lab, "commit", "-l", lab.hosts[0].name, "-y", "--output", "jsonl")

    assert (ran.code, "unit_lost" in ran.out, "still drain" in ran.said) == (3, True, False), ran.said
    assert status(lab)[lab.hosts[0].name]["phase"] == "TRIAL"
    go_back(lab)
    for host in lab.hosts:
        assert (guards(host), shown(host)) == ("", (serving(host), "active"))
        host.sh("systemctl unmask nginx; systemctl daemon-reload; systemctl restart nginx")
        assert shown(host) == (serving(host), "active")


@pytest.mark.long
def test_a_unit_with_an_escaped_name_of_a_template_is_guarded_and_followed(lab: Lab, release: Path) -> None:
    for host in lab.hosts:
        host.sh(
            f"systemctl stop nginx; systemctl cat nginx | grep -v '^#' >'/etc/systemd/system/web\\x2dfront@.service'; "
            f"systemctl daemon-reload; systemctl start '{ESCAPED}'"
        )
    hold(lab, release)
    for host in lab.hosts:
        assert status(lab)[host.name]["unit"]["name"] == ESCAPED
        assert REFUSED in host.sh(f"systemctl restart '{ESCAPED}' 2>&1 && exit 1 || true")
        host.sh(f"systemctl reload '{ESCAPED}'; [ $(cat {PACKAGED.pid_file}) = {NEWEST} ]")

    assert said(go_back(lab)) == set()

    for host in lab.hosts:
        assert (guards(host), shown(host, ESCAPED)) == ("", (serving(host), "active"))
