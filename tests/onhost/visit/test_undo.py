"""`undo` on the host's console: which instance it takes back, and what it prints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Ask, Layout, Outcome
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.undo import undo
from tests.onhost.visit.test_dispatch import Host


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    found = Host.on(tmp_path, make_release("new", tmp_path / "release"))
    yield found
    found.nginx.end()


def an_instance(folder: Path, pid_file: str) -> InstanceStore:
    """A host that fleet has visited and not changed since."""
    own = Store(Machine(), str(folder)).instance(pid_file)
    own.write_layout(Layout(pid_file=pid_file, state_dir=str(folder)))
    return own


@pytest.mark.parametrize("meant", ["alone", "by pid file", "by folder"])
def test_a_held_host_is_rolled_back_and_every_line_is_a_sentence(
    meant: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.sha256()
    assert host.visit(Ask.UPGRADE)[0].outcome is Outcome.DONE
    pid_file = str(host.nginx.pid_file)
    words = {"alone": [], "by pid file": [pid_file]}.get(
        meant, [Store(Machine(), str(host.state_dir)).instance(pid_file).name]
    )

    code = undo(Machine(), str(host.state_dir), words)

    said = capsys.readouterr().out.splitlines()
    assert (code, host.sha256()) == (0, before)
    assert [line.split()[:2] for line in said[:-1]] == [["revive", "done"], ["dismiss", "done"], ["restore", "done"]]
    assert said[-1] == "done: nginx runs what it ran before the rollout."


def test_a_host_with_several_instances_lists_them_by_pid_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        an_instance(tmp_path, f"/run/{name}.pid")
    unknown = InstanceStore(Machine(), str(tmp_path), "f" * 16)
    unknown.make()

    assert undo(Machine(), str(tmp_path), []) == 2
    assert undo(Machine(), str(tmp_path), ["/run/three.pid"]) == 2

    first, title, *listed = capsys.readouterr().out.splitlines()[:5]
    assert first == f"usage: {tmp_path}/undo [PID_FILE]"
    assert title == "The instances on this host:"
    assert sorted(line.strip() for line in listed) == sorted(["/run/one.pid", "/run/two.pid", "f" * 16])


def test_a_pid_file_that_would_move_the_cursor_is_made_safe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        an_instance(tmp_path, f"/run/\x1b[2J{name}.pid")

    assert undo(Machine(), str(tmp_path), []) == 2
    assert "\x1b" not in capsys.readouterr().out


def test_a_host_without_an_instance_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert undo(Machine(), str(tmp_path), []) == 2
    assert "has changed no nginx on this host" in capsys.readouterr().out


def test_an_instance_that_no_rollout_has_changed_is_back_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    an_instance(tmp_path, "/run/nginx.pid")

    assert undo(Machine(), str(tmp_path), ["/run/nginx.pid"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(".")


def test_a_record_that_cannot_be_read_is_a_failure_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = an_instance(tmp_path, "/run/nginx.pid")
    Path(own.folder, "record.json").write_text("{")

    assert undo(Machine(), str(tmp_path), []) == 1

    said = capsys.readouterr().out
    assert said.startswith("failed: ")
    assert "record.json" in said
    assert said.rstrip().endswith(".")
