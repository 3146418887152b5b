"""The rehearsal on real hosts: what it shows of each kind of release, and that it leaves no trace."""

import json
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PID_FILE
from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from fleet.onhost.rehearsal.evidence import Answered, Defect, Generation, Rehearsal
from fleet.onhost.wire import from_plain
from tests.lab.conftest import MakeLab
from tests.support.lab.carried import carry, run_there
from tests.support.lab.inside import Inside
from tests.support.lab.traces import differences, inodes
from tests.support.lab.worlds import WORLDS, World
from tests.support.private_nginx import wait_until

HEALTH = "http://127.0.0.1/health"
ALIVE = ("new", "hang-workers", "errors", "crash-on-request")
BROKEN = {"crash-workers": Defect.WORKERS_DIE, "hung-master": Defect.NO_WORKERS, "bad-config": Defect.ENDED}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    folder.chmod(0o755)
    for kind in (*ALIVE, *BROKEN, "missing-lib", "truncated"):
        make_release(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab, releases: Path) -> Lab:
    lab = make_lab(1, show=[str(releases)])
    for host in lab.hosts:
        carry(host, {})
    return lab


def rehearsed(
    host: LabHost,
    release: Path,
    pid_file: str = PID_FILE,
    probes: tuple[str, ...] = (HEALTH,),
    alone: bool = False,
    overlays: bool = True,
) -> Rehearsal:
    asked = {"release": str(release), "pid_file": pid_file, "probes": probes, "alone": alone, "overlays": overlays}
    answer = run_there(host, "tests.support.lab.puppet_rehearsal", asked)
    found: Rehearsal = from_plain(Rehearsal, json.loads(json.dumps(answer)))
    return found


def came(found: Generation | None) -> Generation:
    assert found is not None
    assert found.fault is None, found
    return found


def test_a_good_release_does_all_that_the_running_one_does(lab: Lab, releases: Path) -> None:
    found = rehearsed(lab.hosts[0], releases / "new")

    assert (found.why_not, found.alone) == (None, False)
    old, new = came(found.old), came(found.new)
    assert (new.listeners, new.answers, new.workers) == (old.listeners, old.answers, 2)
    assert [(one.question, one.good) for one in new.answers] == [("tcp 0.0.0.0:80", True), (HEALTH, True)]
    assert (new.lines, new.pid_file, new.error_log) == ((), PID_FILE, old.error_log)
    assert "PATH" in old.environment
    assert "PATH" not in new.environment


@pytest.mark.parametrize("kind", BROKEN)
def test_a_release_that_does_not_come_up_is_seen(lab: Lab, releases: Path, kind: str) -> None:
    found = rehearsed(lab.hosts[0], releases / kind)

    came(found.old)
    assert found.new is not None
    assert found.new.fault is not None
    assert found.new.fault.defect is BROKEN[kind]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("hang-workers", "no answer"), ("crash-on-request", "no answer"), ("errors", "500")],
)
def test_a_release_that_answers_wrongly_is_seen(lab: Lab, releases: Path, kind: str, answer: str) -> None:
    found = rehearsed(lab.hosts[0], releases / kind)

    assert came(found.old).answers[0] == Answered("tcp 0.0.0.0:80", "200", True)
    assert came(found.new).answers[0] == Answered("tcp 0.0.0.0:80", answer, answer == "500")


def test_nothing_is_left_on_the_host(lab: Lab, releases: Path) -> None:
    host = lab.hosts[0]
    carry(host, {})
    before, living = inodes(host), {one.inner for one in Inside(host).processes()}

    for kind in ("new", "crash-workers", "hung-master"):
        rehearsed(host, releases / kind)

    assert differences(before, inodes(host)) == {}
    assert {one.inner for one in Inside(host).processes()} == living


@pytest.fixture(scope="module")
def worlds(make_lab: MakeLab, releases: Path) -> dict[str, LabHost]:
    """A host for each world, with its nginx at work."""
    lab = make_lab(len(WORLDS), show=[str(releases)])
    for host, world in zip(lab.hosts, WORLDS, strict=True):
        carry(host, {})
        for path, text in world.files:
            done = host.exec(["/bin/sh", "-euc", 'mkdir -p "$(dirname $0)"; cat > $0', path], input=text.encode())
            assert done.returncode == 0, done.stderr
        host.sh(world.shell())
    return dict(zip([world.name for world in WORLDS], lab.hosts, strict=True))


@pytest.mark.parametrize("overlays", [True, False], ids=["overlays", "no-overlay"])
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_rehearsal_in_any_world_shows_both_generations_and_leaves_no_trace(
    worlds: dict[str, LabHost], releases: Path, world: World, overlays: bool
) -> None:
    host = worlds[world.name]
    before, living = inodes(host), {one.inner for one in Inside(host).processes()}

    found = rehearsed(host, releases / "new", world.pid_file, (world.probe,), overlays=overlays)

    assert differences(before, inodes(host)) == {}
    assert {one.inner for one in Inside(host).processes()} == living
    assert found.why_not is None, found
    old, new = came(found.old), came(found.new)
    assert (new.listeners, new.answers, new.lines) == (old.listeners, old.answers, old.lines)
    assert new.answers[-1] == Answered(world.probe, "as expected", True)


def test_another_programs_socket_is_not_reached(worlds: dict[str, LabHost], releases: Path) -> None:
    host = worlds["unix-sockets"]

    found = rehearsed(host, releases / "new")

    assert Answered("tcp 127.0.0.1:8081", "502", True) in came(found.new).answers
    assert host.sh("cat /run/app.met") == ""
    host.sh("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/app.sock\")'")
    wait_until(lambda: host.sh("cat /run/app.met") == "MET\n", "the program says whom it met")
