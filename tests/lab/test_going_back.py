"""Going back: by a rollback from another terminal, by `undo` on the host, and when the controller is killed or cut off."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PREFIX
from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.lab.conftest import MakeLab
from tests.support.lab.operator import agrees, are_as_before, fleet, look, phases, sha256, start, status

BASE = sha256(DEFAULT_BASE)
RESTING = {"OLD", "TRIAL", "NEW"}
HELD = ("-y", "--bake", "0s", "--settle", "500ms", "--batches", "100%", "--commit", "never")
WATCHED = ("-y", "--settle", "500ms", "--batches", "1,100%", "--output", "jsonl")
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def hosts(make_lab: MakeLab) -> Lab:
    return make_lab(2)


@pytest.fixture
def lab(hosts: Lab) -> Iterator[Lab]:
    """Two hosts on the release before, again after each test."""
    yield hosts
    for host in hosts.hosts:
        host.heal()
    fleet(hosts, "rollback", "-y")
    are_as_before(hosts, BASE)


def run(lab: Lab, code: int, *words: str) -> str:
    ran = fleet(lab, *words)
    assert ran.code == code, ran.said
    return ran.said


def undo(host: LabHost, instance: str = "") -> str:
    return host.sh(f"/var/lib/fleet/undo {instance}", timeout_s=60)


def wait_for_line(process: "subprocess.Popen[str]", word: str, host: str | None = None) -> None:
    """The running command has said so; its other lines are read and dropped."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line and (host is None or host in line):
            return
    raise AssertionError(f"{word!r} never appeared in the output")


def last_event(said: str) -> dict[str, object]:
    """The last event of a command whose two outputs came together."""
    event: dict[str, object] = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
    return event


def wait_for_phases(lab: Lab, wanted: set[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not (seen := phases(lab)) <= wanted:
        assert time.monotonic() < until, f"still {seen}"


def executed(host: LabHost) -> list[str]:
    """What /proc/PID/exe reads for each master, the older one first."""
    masters = "'[m]aster process'"
    pids = f"$(pgrep -of {masters}; pgrep -nf {masters})"
    return host.sh(f"for pid in {pids}; do readlink /proc/$pid/exe; done").splitlines()


def test_no_master_runs_a_file_without_a_name(lab: Lab, release: Path) -> None:
    """needrestart would restart nginx for it: on an overlay, too."""
    host = lab.hosts[0]
    new, kept = f"{PREFIX}/sbin/nginx", f"{PREFIX}/sbin/.nginx.fleet-kept"
    one = ("-l", host.name)
    run(lab, 0, "upgrade", str(release), *one, *HELD)
    assert executed(host) == [kept, new]
    run(lab, 0, "rollback", "-y", *one)
    assert executed(host) == [new, new]
    run(lab, 0, "upgrade", str(release), *one, *HELD)
    run(lab, 0, "commit", "-y", *one)
    assert executed(host) == [new, new]
    run(lab, 0, "rollback", "-y", *one)
    assert executed(host) == [new, new]


def test_a_host_that_rolled_itself_back_is_not_committed(lab: Lab, release: Path) -> None:
    run(lab, 0, "upgrade", str(release), *HELD)
    said = undo(lab.hosts[1])
    assert "restore" in said

    ran = fleet(lab, "commit", "-y", "--output", "jsonl")

    after = status(lab)
    assert ran.code == 3, ran.said
    assert [(one["host"], one["reason"]) for one in ran.events if one["reason"]] == [(lab.hosts[1].name, "went_back")]
    assert [after[host.name]["phase"] for host in lab.hosts] == ["NEW", "OLD"]
    assert after[lab.hosts[1].name]["path_sha256"] == BASE


def test_a_host_that_went_back_in_the_bake_fails_the_batch(lab: Lab, release: Path) -> None:
    process = start(lab, "upgrade", str(release), *WATCHED, "--bake", "20s")
    with process:
        wait_for_line(process, '"drain"', lab.hosts[0].name)
        wait_for_phases(lab, {"OLD", "TRIAL"})
        until = time.monotonic() + PATIENCE_S
        while status(lab)[lab.hosts[0].name]["phase"] != "TRIAL":
            assert time.monotonic() < until
        undo(lab.hosts[0])
        rest = process.communicate(timeout=120)[0]

    last = last_event(rest)
    assert (last["type"], last["exit_code"]) == ("rollout_ended", 3), rest
    assert not any('"batch_opened"' in line and '"batch": 2' in line for line in rest.splitlines())
    assert phases(lab) == {"OLD"}


def test_a_rollback_takes_over_from_the_running_upgrade(lab: Lab, release: Path) -> None:
    """The upgrade halts with exit 3 and changes nothing from then on; a second rollback changes nothing."""
    process = start(lab, "upgrade", str(release), *WATCHED, "--bake", "60s")
    with process:
        wait_for_line(process, '"batch_opened"')
        wait_for_line(process, '"visit_ended"', lab.hosts[0].name)

        run(lab, 0, "rollback", "-y")
        rest = process.communicate(timeout=120)[0]

    last = last_event(rest)
    assert process.returncode == 3, rest
    assert (last["result"], last["exit_code"]) == ("halted", 3)
    assert "taken over" in rest
    agrees(lab, "OLD", BASE)
    before = {host.name: look(host) for host in lab.hosts}
    run(lab, 0, "rollback", "-y")
    assert {host.name: look(host) for host in lab.hosts} == before


def test_a_rolled_back_rollout_cannot_be_committed_nor_marched_forward(lab: Lab, release: Path) -> None:
    run(lab, 0, "upgrade", str(release), *HELD)
    run(lab, 0, "rollback", "-y")

    ran = fleet(lab, "commit", "-y")

    assert ran.code == 3, ran.said
    agrees(lab, "OLD", BASE)


def test_undo_on_the_console_works_from_held_and_after_commit(lab: Lab, release: Path) -> None:
    host = lab.hosts[0]
    for words in ((), ("commit",)):
        run(lab, 0, "upgrade", str(release), *HELD)
        for word in words:
            run(lab, 0, word, "-y")
        told = status(lab)[host.name]
        if not words:
            assert told["undo"]
            host.sh(told["undo"], timeout_s=60)
        else:
            undo(host)
        assert (look(host).running_sha256, look(host).path_sha256, look(host).stray) == (BASE, BASE, ())
        before = look(host)
        undo(host)
        assert look(host) == before, "a second undo changes nothing"
        assert status(lab)[host.name]["phase"] == "OLD"
        run(lab, 0, "rollback", "-y")


def test_a_committed_rollout_can_be_undone_after_a_bad_one_was_rolled_back(
    lab: Lab, release: Path, tmp_path: Path
) -> None:
    """The canary of the bad one keeps two stories; the way back to the release before both is not lost."""
    run(lab, 0, "upgrade", str(release), *HELD)
    run(lab, 0, "commit", "-y")
    first = status(lab)[lab.hosts[0].name]["rollout"]
    bad = make_release("errors", tmp_path / "bad", version="1.22.8")
    ran = fleet(lab, "upgrade", str(bad), "-y", "--bake", "0s", "--batches", "1,100%", "--rehearse", "off")
    assert ran.code == 3, ran.said
    agrees_on_binaries(lab, sha256(release))

    run(lab, 0, "rollback", "-y", str(first))

    agrees_on_binaries(lab, BASE)


def agrees_on_binaries(lab: Lab, running: str) -> None:
    for host in lab.hosts:
        seen = look(host)
        assert (seen.running_sha256, seen.path_sha256, len(seen.masters)) == (running, running, 1), host.name


FORWARD = ("stage", "swap", "launch", "verify", "drain")


def one_of(steps: tuple[str, ...], quick: str) -> list[object]:
    """These steps; `make test` plays one, because the kill matrix strikes in all of them."""
    return [pytest.param(step, marks=() if step == quick else pytest.mark.long) for step in steps]


@pytest.mark.parametrize("step", one_of(FORWARD, "launch"))
def test_a_controller_killed_going_forward_leaves_a_resting_phase(step: str, lab: Lab, release: Path) -> None:
    process = start(lab, "upgrade", str(release), *HELD, "--output", "jsonl")
    with process:
        wait_for_line(process, f'"{step}"', lab.hosts[0].name)
        process.kill()

    wait_for_rest(lab)
    rests(lab)


def test_a_link_cut_going_forward_leaves_a_resting_phase(make_lab: MakeLab, release: Path) -> None:
    """Each host's line goes dead in another step, without a FIN; what the host does then it does alone."""
    lab = make_lab(len(FORWARD))
    to_cut = dict(zip(FORWARD, lab.hosts, strict=True))
    words = ("--on-failure", "halt", "--max-failures", "100%", "--output", "jsonl")
    process = start(lab, "upgrade", str(release), *HELD, *words)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line) if line.startswith("{") else {}
            host = to_cut.get(str(event.get("step")))
            if event.get("type") == "step_started" and host is not None and event["host"] == host.name:
                host.cut()
                del to_cut[str(event["step"])]
            if not to_cut:
                break
        wait_for_rest(lab)
        process.kill()
    for host in lab.hosts:
        host.heal()

    rests(lab)
    run(lab, 0, "rollback", "-y")
    agrees(lab, "OLD", BASE)


def rests(lab: Lab) -> None:
    """Every host is in a resting phase, and a host in OLD has the old file at its path."""
    for told in status(lab).values():
        assert told["phase"] in RESTING, told
        assert told["phase"] != "OLD" or told["path_sha256"] == BASE


@pytest.mark.parametrize("step", one_of(("retire", "sweep"), "retire"))
def test_a_controller_cut_off_in_the_commit_leaves_a_resting_phase(step: str, lab: Lab, release: Path) -> None:
    run(lab, 0, "upgrade", str(release), *HELD)
    process = start(lab, "commit", "-y", "--output", "jsonl")
    with process:
        wait_for_line(process, f'"{step}"')
        process.kill()

    wait_for_rest(lab)
    rests(lab)


@pytest.mark.parametrize("step", one_of(("revive", "dismiss", "restore"), "dismiss"))
def test_a_controller_cut_off_going_back_leaves_a_resting_phase(step: str, lab: Lab, release: Path) -> None:
    run(lab, 0, "upgrade", str(release), *HELD)
    process = start(lab, "rollback", "-y", "--output", "jsonl")
    with process:
        wait_for_line(process, f'"{step}"')
        process.kill()

    wait_for_rest(lab)
    rests(lab)


def wait_for_rest(lab: Lab) -> None:
    """No step script runs on any host."""
    for host in lab.hosts:
        host.sh("while ps -eo args= | grep -q '[f]leet.pyz'; do sleep 0.1; done", timeout_s=PATIENCE_S)
