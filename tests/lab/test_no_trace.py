"""Guarantee 7: `check` and an upgrade that preflight refuses leave no trace, inode by inode, while users upload."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from tests.lab.conftest import MakeLab
from tests.support.lab.carried import FOLDER, carry
from tests.support.lab.end_state import until_quiet
from tests.support.lab.inside import Inside
from tests.support.lab.operator import fleet
from tests.support.lab.traces import Inode, differences, inodes
from tests.support.lab.worlds import USERS_WRITE, WORLDS, World, put

Files = dict[str, Inode]
REFUSED = 2


@dataclass(frozen=True)
class Looked:
    """What a host's files were like before and after, what lived there, and how its users fared."""

    before: Files
    after: Files
    living: set[int]
    still: set[int]
    uploads: dict[str, int]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    lab = make_lab(len(WORLDS))
    for host, world in zip(lab.hosts, WORLDS, strict=True):
        carry(host, {})
        for path, text in world.files:
            put(host, path, text)
        host.sh(world.shell())
    return lab


@pytest.fixture(scope="module")
def inventory(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's inventory, in which each host has the pid file and the probe of its world."""
    lines = lab.inventory.read_text().splitlines()
    kept = [
        line for line in lines if "nginx_pid_file" not in line and "fleet_probes" not in line and "{url" not in line
    ]
    for number, line in enumerate(kept):
        for host, world in zip(lab.hosts, WORLDS, strict=True):
            if line.strip().startswith(f"{host.name}:"):
                own = f', nginx_pid_file: "{world.pid_file}", fleet_probes: [{{url: "{world.probe}"}}]}}'
                kept[number] = line.rstrip("}") + own
    path = tmp_path_factory.mktemp("inventory") / "worlds.yaml"
    path.write_text("\n".join(kept) + "\n")
    return path


@pytest.fixture(scope="module")
def looked(lab: Lab, inventory: Path, release: Path) -> dict[str, Looked]:
    """All hosts, once staged, before and after a check and a refused upgrade under uploads."""
    fleet(lab, "check", str(release), inventory=inventory)
    before = [
        (inodes(host, USERS_WRITE, world.own_folders), lives(host))
        for host, world in zip(lab.hosts, WORLDS, strict=True)
    ]
    uploads = [uploading(host, world) for host, world in zip(lab.hosts, WORLDS, strict=True)]

    checked = fleet(lab, "check", str(release), inventory=inventory)
    upgraded = fleet(lab, "upgrade", "--yes", str(release), inventory=inventory)

    counts = [json.loads(one.communicate(timeout=60)[0]) for one in uploads]
    assert (checked.code, upgraded.code) == (REFUSED, REFUSED), checked.said + upgraded.said
    after = seen(lab)
    every = zip(WORLDS, before, after, counts, strict=True)
    return {
        world.name: Looked(files, then_files, living, still, count)
        for world, (files, living), (then_files, still), count in every
    }


def seen(lab: Lab) -> list[tuple[Files, set[int]]]:
    """Each host's files, and what lives there."""
    pairs = zip(lab.hosts, WORLDS, strict=True)
    return [(inodes(host, USERS_WRITE, world.own_folders), lives(host)) for host, world in pairs]


def lives(host: LabHost) -> set[int]:
    """The processes of the host but those of logins, by pid."""
    until_quiet(host)  # a step script ends a moment after the command that it answered
    return {one.inner for one in Inside(host).processes() if not one.name.startswith("sshd")}


def uploading(host: LabHost, world: World) -> "subprocess.Popen[bytes]":
    argv = ["/usr/bin/env", f"PYTHONPATH={FOLDER}", "python3", "-m", "tests.support.lab.puppet_uploads", world.upload]
    return subprocess.Popen(host.enter(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_check_and_a_refused_upgrade_leave_no_trace(looked: dict[str, Looked], world: World) -> None:
    host = looked[world.name]

    assert differences(host.before, host.after) == {}
    assert host.still == host.living


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_no_user_notices_a_check_or_a_refused_upgrade(looked: dict[str, Looked], world: World) -> None:
    uploads = looked[world.name].uploads

    assert set(uploads) == {"200"}
    assert uploads["200"] >= 10


REFUSES = {"new-site": "pending_config", "own-root": "other_root"}


def test_preflight_refuses_only_what_must_be_refused(lab: Lab, inventory: Path, release: Path, looked: object) -> None:
    ran = fleet(lab, "check", "--output", "jsonl", str(release), inventory=inventory)

    refusals = {one["host"]: one["reason"] for one in ran.events if one.get("outcome") == "refused"}
    by_world = dict(zip([world.name for world in WORLDS], [host.name for host in lab.hosts], strict=True))
    assert refusals == {by_world[name]: reason for name, reason in REFUSES.items()}


def test_every_other_world_is_upgraded_and_taken_back_without_a_lost_upload(
    lab: Lab, inventory: Path, release: Path, looked: object
) -> None:
    """After the commit, too, and although an address that nginx listens on is not on the host any more."""
    fit = [(host, world) for host, world in zip(lab.hosts, WORLDS, strict=True) if world.name not in REFUSES]
    limit = ",".join(host.name for host, _ in fit)
    quick = ("--batches", "100%", "--bake", "0s", "--settle", "0s")
    uploads = [uploading(host, world) for host, world in fit]

    upgraded = fleet(lab, "upgrade", "--yes", "-l", limit, *quick, str(release), inventory=inventory)
    back = fleet(lab, "rollback", "--yes", "-l", limit, inventory=inventory)

    counts = [json.loads(one.communicate(timeout=60)[0]) for one in uploads]
    assert (upgraded.code, back.code) == (0, 0), upgraded.said + back.said
    assert [set(count) for count in counts] == [{"200"}] * len(fit)
