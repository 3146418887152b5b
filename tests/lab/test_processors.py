"""Hosts that have other processors than when nginx was started: warned of, and upgraded by the present number."""

from pathlib import Path

import pytest

from fleet.lab.hosts.nginx import CONFIG, PID_FILE, START
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, sha256

ONLINE = "/sys/devices/system/cpu/online"
RESTART = f"kill -QUIT $(cat {PID_FILE}); while [ -e {PID_FILE} ]; do sleep 0.01; done"
WORKERS = f"pgrep -c -P $(cat {PID_FILE})"
BEFORE_AND_NOW = {"lab-001": (4, 2), "lab-002": (1, 3), "lab-003": (4, 2)}
REUSEPORT = "lab-003"


def with_processors(count: int) -> str:
    """Shell that gives the host this number of processors."""
    return f"echo 0-{count - 1} >/run/online-{count}; mount --bind /run/online-{count} {ONLINE}"


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    found = make_lab(len(BEFORE_AND_NOW))
    for host in found.hosts:
        before, now = BEFORE_AND_NOW[host.name]
        edit = "s/^worker_processes 2;/worker_processes auto;/"
        edit += ";s/listen 80;/listen 80 reuseport;/" if host.name == REUSEPORT else ""
        host.sh(f"{RESTART}; sed -i '{edit}' {CONFIG}; {with_processors(before)}; {START}")
        host.sh(f"until [ $({WORKERS}) = {before} ]; do sleep 0.01; done; {with_processors(now)}")
    return found


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.mark.parametrize("name", [name for name in BEFORE_AND_NOW if name != REUSEPORT])
def test_a_host_with_fewer_or_more_processors_is_upgraded_and_taken_back(lab: Lab, release: Path, name: str) -> None:
    host = next(host for host in lab.hosts if host.name == name)
    before, now = BEFORE_AND_NOW[name]

    ran = fleet(
        lab, "upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms", "--commit", "never", "-l", name
    )

    assert ran.code == 0, ran.said
    assert f"The new release would start {now} workers, where nginx" in " ".join(ran.said.split())
    assert "poisoned" not in ran.said
    assert look(host).running_sha256 == sha256(release)
    assert int(host.sh(WORKERS)) == now

    back = fleet(lab, "rollback", "-y", "-l", name)

    assert back.code == 0, back.said
    assert look(host).running_sha256 == sha256(DEFAULT_BASE)
    assert int(host.sh(WORKERS)) == before


def test_fewer_sockets_for_reuseport_are_still_refused(lab: Lab, release: Path) -> None:
    ran = fleet(lab, "check", str(release), "-l", REUSEPORT)

    assert ran.code == 2, ran.said
    assert "fewer_workers" in ran.said


def test_a_reload_counts_no_processors(lab: Lab) -> None:
    host = lab.hosts[0]
    old = host.sh(f"pgrep -P $(cat {PID_FILE})").split()

    host.sh(
        f"kill -HUP $(cat {PID_FILE}); for one in {' '.join(old)}; do while kill -0 $one 2>&-; do sleep 0.01; done; done"
    )

    assert int(host.sh(WORKERS)) == BEFORE_AND_NOW[host.name][0]
