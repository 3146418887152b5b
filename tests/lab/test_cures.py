"""The command in a refusal's remedy works: refused by `check`, cured as it says, upgraded, and taken back."""

import re
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PID_FILE, PREFIX, PROGRAM, START
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import fleet, look, sha256

RESTART = f"kill -QUIT $(cat {PID_FILE}); while [ -e {PID_FILE} ]; do sleep 0.01; done"
COMMAND = re.compile("`([^`]+)`")
TROUBLES = {
    "mounted": (f"{RESTART}; cp {PROGRAM} /srv/nginx; mount --bind /srv/nginx {PROGRAM}; {START}", "not_replaceable"),
    "read-only-mount": (
        f"{RESTART}; cp {PROGRAM} /srv/nginx; mount --bind /srv/nginx {PROGRAM}; mount -o remount,bind,ro {PROGRAM}; "
        + START,
        "not_replaceable",
    ),
    "read-only-folder": (
        f"mount --bind {PREFIX}/sbin {PREFIX}/sbin; mount -o remount,bind,ro {PREFIX}/sbin",
        "read_only",
    ),
    "immutable": (f"chattr +i {PROGRAM}", "not_replaceable"),
    "immutable-folder": (f"chattr +i {PREFIX}/sbin", "not_replaceable"),
    "pid-mounted": (f"mount --bind {PID_FILE} {PID_FILE}", "pid_file_fixed"),
    "pid-folder-append-only": (f"chattr +a {PREFIX}/logs", "pid_file_fixed"),
}


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab) -> Lab:
    found = make_lab(len(TROUBLES))
    for host in found.hosts:
        host.sh(TROUBLES[trouble_of(found, host)][0])
    return found


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


def trouble_of(lab: Lab, host: LabHost) -> str:
    return list(TROUBLES)[list(lab.hosts).index(host)]


def host_with(lab: Lab, trouble: str) -> LabHost:
    return next(host for host in lab.hosts if trouble_of(lab, host) == trouble)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_command_that_a_refusal_names_makes_the_upgrade_possible(lab: Lab, release: Path, trouble: str) -> None:
    host, word = host_with(lab, trouble), TROUBLES[trouble][1]
    only = ("-l", host.name)
    before = look(host)

    refused = fleet(lab, "check", str(release), *only, "--output", "jsonl")

    assert refused.code == 2, refused.said
    (ended,) = [event for event in refused.events if event["type"] == "visit_ended"]
    assert (ended["outcome"], ended["reason"]) == ("refused", word), ended
    assert look(host) == before

    found = COMMAND.search(ended["remedy"])
    assert found
    host.sh(found[1])

    for words, wanted in (
        (("upgrade", str(release), "-y", "--bake", "0s", "--settle", "500ms"), sha256(release)),
        (("rollback", "-y"), sha256(DEFAULT_BASE)),
    ):
        ran = fleet(lab, *words, *only)
        assert ran.code == 0, ran.said
        seen = look(host)
        assert seen.running_sha256 == seen.path_sha256 == wanted
