"""Hosts that fleet can't work on (no Python, an old one, no root, no sudo), seen from the laptop; and a good one.

A word that fleet.ssh can refuse a host with must be met by a test on a real sshd, here or in tests/ssh.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import ssh
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import Ran, fleet, look, sha256

TESTS = Path(__file__).parent.parent
# The kind of host that deserves a word, and what of its remedy must be said.
REFUSED = {
    "python_missing": ("no-python", "ansible_python_interpreter"),
    "python_old": ("old-python", "Install a newer Python 3"),
    "not_root": ("non-root-user", "Set ansible_become: true"),
    "sudo_missing": ("no-sudo", "Install sudo there"),
    "sudo_password": ("sudo-password", "deploy ALL=(root) NOPASSWD: /bin/sh"),
}
GOOD = "sudo-user"
KINDS = (*(kind for kind, _ in REFUSED.values()), GOOD)
# What a login alone leaves on a host.
OF_THE_LOGIN = re.compile(r"var/log/|var/lib/sudo/")


@dataclass(frozen=True, slots=True)
class Checked:
    """What `fleet check --output jsonl` said of all hosts, and which of their files it changed."""

    ran: Ran
    ended: dict[str, dict[str, Any]]
    changed: dict[str, set[str]]


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    return make_lab(len(KINDS), {f"lab-{number:03}": kind for number, kind in enumerate(KINDS, 1)})


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


@pytest.fixture(scope="module")
def checked(lab: Lab, release: Path) -> Checked:
    before = {host.name: (files(host), look(host)) for host in lab.hosts}
    ran = fleet(lab, "check", str(release), "--output", "jsonl")
    after = {host.name: (files(host), look(host)) for host in lab.hosts}
    assert {name: seen for name, (_, seen) in before.items()} == {name: seen for name, (_, seen) in after.items()}
    changed = {name: {path for path, _ in before[name][0] ^ after[name][0]} for name in before}
    ended = {event["host"]: event for event in ran.events if event["type"] == "visit_ended"}
    return Checked(ran, ended, changed)


def files(host: LabHost) -> set[tuple[str, int]]:
    """The files of the host's disk, with when each was last written."""
    found = ((str(path.relative_to(host.disk)), path) for path in host.disk.rglob("*"))
    return {(name, path.lstat().st_mtime_ns) for name, path in found if not OF_THE_LOGIN.match(name)}


def of_kind(lab: Lab, kind: str) -> LabHost:
    return next(host for host in lab.hosts if host.kind == kind)


@pytest.mark.parametrize("word", REFUSED)
def test_a_host_that_cannot_be_worked_on_is_refused_with_its_cure_and_left_as_it_was(
    lab: Lab, checked: Checked, word: str
) -> None:
    kind, cure = REFUSED[word]
    host = of_kind(lab, kind)

    said = checked.ended[host.name]

    assert (said["outcome"], said["reason"]) == ("refused", word)
    assert said["message"]
    assert cure in said["remedy"]
    assert checked.changed[host.name] == set()


def test_one_refused_host_makes_check_end_with_2_and_the_table_has_each_word(lab: Lab, checked: Checked) -> None:
    refused = sorted(host.name for host in lab.hosts if host.kind != GOOD)

    last = checked.ran.events[-1]

    assert checked.ran.code == last["exit_code"] == 2
    assert all(name in last["message"] for name in refused)
    assert last["counts"]["refused"] == len(REFUSED)
    lines = checked.ran.err.splitlines()
    for word, (kind, _) in REFUSED.items():
        assert [line for line in lines if line.split()[:2] == [of_kind(lab, kind).name, word]], checked.ran.err


def test_the_python_that_is_too_old_is_named_with_its_version(lab: Lab, checked: Checked) -> None:
    assert "/usr/bin/python3 (3 5)" in checked.ended[of_kind(lab, "old-python").name]["message"]


def test_an_upgrade_of_refused_hosts_begins_nowhere(lab: Lab, release: Path) -> None:
    before = {host.name: look(host) for host in lab.hosts}

    ran = fleet(lab, "upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms")

    assert ran.code == 2, ran.said
    assert {host.name: look(host) for host in lab.hosts} == before


def test_sudo_without_a_password_is_enough_for_an_upgrade_and_the_way_back(
    lab: Lab, release: Path, checked: Checked
) -> None:
    host = of_kind(lab, GOOD)
    only = ("--limit", host.name)

    assert checked.ended[host.name]["outcome"] == "done"
    said = fleet(lab, "check", str(release), *only)
    assert said.code == 0, said.said
    assert "can be upgraded" in said.out

    for words, wanted in (
        (("upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms"), sha256(release)),
        (("rollback", "-y"), sha256(DEFAULT_BASE)),
    ):
        ran = fleet(lab, *words, *only)
        assert ran.code == 0, ran.said
        seen = look(host)
        assert seen.running_sha256 == seen.path_sha256 == wanted
        assert seen.stray == ()
    # What an upgrade leaves belongs to root, nothing of it to the login.
    assert host.sh("find /var/lib/fleet /usr/local/nginx -xdev -user deploy") == ""


def test_the_sudo_rule_in_the_remedy_works(lab: Lab, release: Path, checked: Checked) -> None:
    host = of_kind(lab, "sudo-password")
    command = checked.ended[host.name]["remedy"].partition(": ")[2]
    assert command.startswith("echo "), command

    host.sh(command)

    ran = fleet(lab, "check", str(release), "--limit", host.name)
    assert ran.code == 0, ran.said


def test_every_refusal_of_the_way_in_is_met_on_a_real_sshd() -> None:
    sources = "".join(path.read_text() for path in Path(ssh.__file__).parent.rglob("*.py"))
    words = set(re.findall(r'\b(?:HostRefused|Refusal)\(\s*"(\w+)"', sources))
    tests = "".join(path.read_text() for folder in ("ssh", "lab") for path in (TESTS / folder).rglob("test_*.py"))

    assert words >= {*REFUSED, "no_shell", "path_refused", "bundle_failed"}
    assert {word for word in words if f'"{word}"' not in tests} == set()
