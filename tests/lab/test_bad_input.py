"""Bad input and unreachable hosts: a clear message, the right exit code, and nothing changed anywhere."""

import subprocess
from pathlib import Path

import pytest

from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import Ran, fleet, look

UPGRADE = ("-y", "--bake", "0s")


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(3, {"lab-003": "no-python"})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


def changed(lab: Lab, text: str, folder: Path) -> Path:
    """The lab's inventory with something replaced: `old => new`, one a line."""
    inventory = lab.inventory.read_text()
    for line in text.splitlines():
        old, new = line.split(" => ")
        assert old in inventory, (old, inventory)
        inventory = inventory.replace(old, new)
    path = folder / "hosts.yaml"
    path.write_text(inventory)
    return path


def refused(lab: Lab, *words: str, inventory: Path | None = None) -> Ran:
    """The command is refused with exit 2, and the hosts are what they were."""
    before = {host.name: look(host) for host in lab.hosts}
    ran = fleet(lab, *words, inventory=inventory)
    assert ran.code == 2, ran.said
    assert "Traceback" not in ran.said
    assert {host.name: look(host) for host in lab.hosts} == before
    return ran


def test_a_missing_release_is_refused(lab: Lab) -> None:
    assert "no such file" in refused(lab, "upgrade", "/no/such/nginx", *UPGRADE).err


def test_a_script_is_no_release(lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "nginx"
    script.write_text("#!/bin/sh\nexec nginx\n")
    script.chmod(0o755)

    assert "a script" in refused(lab, "upgrade", str(script), *UPGRADE).err


def test_an_inventory_error_names_file_and_line(lab: Lab, release: Path, tmp_path: Path) -> None:
    broken = changed(lab, "fleet_probes => fleet_probe", tmp_path)

    said = refused(lab, "upgrade", str(release), *UPGRADE, inventory=broken).err

    assert f"{broken}:" in said
    assert "fleet_probe is unknown" in said
    assert "fleet_state_dir" in said, "the allowed names are missing"


def test_an_unknown_host_in_limit_is_refused(lab: Lab, release: Path) -> None:
    said = refused(lab, "upgrade", str(release), *UPGRADE, "--limit", "lab-01").err

    assert "lab-01" in said


def test_without_a_terminal_and_without_yes_nothing_is_changed(lab: Lab, release: Path) -> None:
    said = refused(lab, "upgrade", str(release)).err

    assert "-y" in said


def test_a_wrong_host_key_stops_the_rollout_before_it_begins(lab: Lab, release: Path, tmp_path: Path) -> None:
    """The one message that must not be missed: the key is another one, with both fingerprints and where it stands."""
    lines = lab.known_hosts.read_text().splitlines()
    keys = [line.split(None, 1) for line in lines]
    known = tmp_path / "known_hosts"
    known.write_text(f"{keys[0][0]} {keys[1][1]}\n" + "\n".join(lines[1:]) + "\n")
    inventory = changed(lab, f"{lab.known_hosts} => {known}", tmp_path)

    said = refused(lab, "upgrade", str(release), *UPGRADE, "-l", "lab-00[1:2]", inventory=inventory).said

    assert "lab-001" in said
    assert "changed" in said.lower()
    assert said.count("SHA256:") >= 2
    assert f"{known}" in said


def test_an_unknown_host_key_is_not_trusted(lab: Lab, release: Path, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("\n".join(lab.known_hosts.read_text().splitlines()[1:]) + "\n")
    inventory = changed(lab, f"{lab.known_hosts} => {known}", tmp_path)

    said = refused(lab, "upgrade", str(release), *UPGRADE, "-l", "lab-00[1:2]", inventory=inventory).said

    assert "lab-001" in said
    assert "known_hosts" in said


def test_an_unreachable_host_stops_the_rollout_before_it_begins(lab: Lab, release: Path) -> None:
    lab.host("lab-002").cut()
    try:
        ran = fleet(lab, "upgrade", str(release), *UPGRADE, "-l", "lab-00[1:2]")
    finally:
        lab.host("lab-002").heal()

    assert ran.code == 2, ran.said
    assert "lab-002" in ran.said
    assert look(lab.host("lab-001")).path_version == "1.22.1"


def test_a_wrong_login_key_is_named(lab: Lab, release: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    inventory = changed(lab, f"{lab.private_key} => {key}", tmp_path)

    said = refused(lab, "upgrade", str(release), *UPGRADE, "-l", "lab-00[1:2]", inventory=inventory).said

    assert "root" in said
    assert str(key) in said


def test_a_host_without_python_is_refused_with_what_to_install(lab: Lab, release: Path) -> None:
    said = refused(lab, "upgrade", str(release), *UPGRADE).said

    assert "lab-003" in said
    assert "python3" in said


@pytest.mark.parametrize(
    ("option", "value"), [("--batches", "0"), ("--batches", "ten"), ("--max-failures", "-1"), ("--bake", "soon")]
)
def test_a_bad_option_names_what_is_allowed(option: str, value: str, lab: Lab, release: Path) -> None:
    said = refused(lab, "upgrade", str(release), "-y", option, value).err

    assert value in said
