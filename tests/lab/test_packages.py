"""Debian's package of nginx beside fleet: installed with its own scripts while a host is held, committed and rolled back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, sha256, status
from tests.support.lab.packages import NGINX, install, installed_version, offer, repack

HELD = ("-y", "--bake", "0s", "--settle", "200ms", "--batches", "100%", "--commit", "never", "--rehearse", "off")


@pytest.fixture
def lab(make_lab: MakeLab) -> Iterator[Lab]:
    """One host with Debian's package; each test needs a new one, for dpkg goes no way back."""
    made = make_lab(1, {"lab-001": "debian-package"})
    yield made
    made.down()


@pytest.fixture(scope="module")
def newer(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newer package of nginx whose binary is neither the host's nor the rollout's."""
    folder = tmp_path_factory.mktemp("newer")
    binary = folder / "binary"
    binary.write_bytes(release.read_bytes() + b"\0")
    return repack(NGINX, "+lab1", folder, binary=binary)


def run(lab: Lab, code: int, *words: str) -> str:
    ran = fleet(lab, *words)
    assert ran.code == code, ran.said
    return " ".join(ran.said.split())


def told(lab: Lab) -> dict[str, object]:
    return status(lab)[lab.hosts[0].name]


def test_a_package_installed_on_a_held_host_has_committed_it(lab: Lab, release: Path, newer: Path) -> None:
    """status says who; commit leaves the package's file and writes down who did it."""
    host = lab.hosts[0]
    before = installed_version(host)
    run(lab, 0, "upgrade", str(release), *HELD)
    held = told(lab)
    assert held["package"] == {"name": "nginx", "version": before, "is_its_file": False, "on_hold": False}

    install(host, newer)

    said = told(lab)
    assert (said["phase"], said["state"], said["running_sha256"]) == ("NEW", "begun", sha256(release))
    assert said["package"] == {"name": "nginx", "version": f"{before}+lab1", "is_its_file": True, "on_hold": False}
    by = f"the package nginx {before}+lab1, installed "
    assert str(said["committed_by"]).startswith(by)
    shown = run(lab, 0, "status")
    assert f"Committed by someone else: the old master was ended by {by}" in shown
    assert f"The path holds nginx {before}+lab1 of package nginx, which does not run" in shown

    seen = look(host)
    run(lab, 0, "commit", "-y")
    assert look(host).path_sha256 == seen.path_sha256
    assert host.sh("dpkg -V nginx") == ""
    said = told(lab)
    assert (said["phase"], said["state"]) == ("NEW", "committed")
    assert str(said["committed_by"]).startswith(by)


def test_the_operator_takes_such_a_host_back_by_allowing_it(lab: Lab, release: Path, newer: Path) -> None:
    """Before that, the rollback refuses to overwrite the package's file, and changes nothing."""
    host = lab.hosts[0]
    old = look(host).running_sha256
    run(lab, 0, "upgrade", str(release), *HELD)
    install(host, newer)
    seen = look(host)

    refused = run(lab, 4, "rollback", "-y")
    assert f"is the file of package nginx {installed_version(host)}: neither" in refused
    assert "--allow path-changed" in refused
    assert look(host) == seen

    run(lab, 0, "rollback", "-y", "--allow", "path-changed")

    assert (look(host).running_sha256, look(host).path_sha256) == (old, old)


def test_a_package_installed_on_a_committed_or_a_rolled_back_host_wins(lab: Lab, release: Path, newer: Path) -> None:
    """Its script upgrades the binary itself, and a rollback of the rollout finds a release that it does not know."""
    host = lab.hosts[0]
    run(lab, 0, "upgrade", str(release), *HELD)
    run(lab, 0, "rollback", "-y")
    assert host.sh("dpkg -V nginx") == "", "the rollback has put the package's own file back"
    run(lab, 0, "upgrade", str(release), *HELD)
    run(lab, 0, "commit", "-y")

    install(host, newer)
    seen = look(host)
    assert seen.running_sha256 == seen.path_sha256 != sha256(release)

    said = run(lab, 4, "rollback", "-y")
    assert f"FOREIGN: {host.name}" in said
    assert look(host) == seen


def test_fleet_holds_the_package_and_releases_it(lab: Lab, release: Path, newer: Path) -> None:
    host = lab.hosts[0]
    offer(host, newer)
    for end in ("rollback", "commit"):
        run(lab, 0, "upgrade", str(release), *HELD, "--hold-package")
        assert marked(host) == "nginx"
        assert told(lab)["package"]["on_hold"] is True  # type: ignore[index]  # a document
        assert "Inst nginx [" not in host.sh("apt-get -s upgrade")

        run(lab, 0, end, "-y")

        assert marked(host) == ""
        assert "Inst nginx [" in host.sh("apt-get -s upgrade")


@pytest.mark.long
def test_undo_on_the_console_releases_it_too_but_not_what_a_person_holds(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    run(lab, 0, "upgrade", str(release), *HELD, "--hold-package")
    host.sh("/var/lib/fleet/undo", timeout_s=60)
    assert marked(host) == ""

    host.sh("apt-mark hold nginx")
    run(lab, 0, "upgrade", str(release), *HELD, "--hold-package")
    run(lab, 0, "rollback", "-y")
    assert marked(host) == "nginx"


def test_a_host_whose_package_can_not_be_held_is_refused_before_anything(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    seen = look(host)
    host.sh("mv /usr/bin/apt-mark /usr/bin/apt-mark.away")

    said = run(lab, 3, "upgrade", str(release), *HELD, "--hold-package")

    assert "could not be held" in said
    assert look(host) == seen
    assert told(lab)["rollout"] is None


def marked(host: LabHost) -> str:
    return host.sh("apt-mark showhold").strip()
