"""Preflight against a real nginx of one's own on the loopback interface; the odd hosts are in `tests/lab`."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.lab.releases.build import make_release
from fleet.onhost.nginx.observe import Observer
from fleet.onhost.observation import Observation
from fleet.onhost.preflight.checks import before_staging, preflight, refusals
from fleet.onhost.protocol import (
    PROTOCOL,
    Ask,
    Finding,
    Goal,
    Layout,
    Options,
    Record,
    Request,
    Rest,
    Severity,
    State,
    Step,
)
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.locate import locate
from tests.support.nginx_module import make_module
from tests.support.onhost.recorded import RecordedMachine, a_look, a_master, a_request, an_instance
from tests.support.private_nginx import wait_until

CONFIG = """
worker_processes 2; pid nginx.pid; error_log error.log notice;
events {{ worker_connections 64; }}
http {{ access_log off; {temporary}
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok"; }} }} include more/*.conf; }}
"""
TEMPORARY = " ".join(f"{name}_temp_path tmp;" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


@dataclass(frozen=True)
class Nginx:
    """A running nginx in a folder of its own."""

    folder: Path
    binary: Path
    port: int

    @property
    def layout(self) -> Layout:
        return Layout(binary=str(self.binary), state_dir=str(self.folder / "state"))

    def look(self) -> Observation:
        machine = Machine()
        return Observer(machine, locate(machine, self.layout)).look()

    def pid(self) -> int:
        return int((self.folder / "nginx.pid").read_text())

    def write(self, text: str) -> None:
        (self.folder / "more" / "more.conf").write_text(text)

    def judged(
        self, staged: Path | None, allow: tuple[str, ...] = (), record: Record | None = None
    ) -> dict[str, Finding]:
        machine = Machine()
        layout = locate(machine, self.layout)
        seen = Observer(machine, layout).look()
        target = machine.sha256(str(staged)) if staged else None
        goal = Goal(target or "0" * 64, Rest.HELD)
        request = Request(PROTOCOL, Ask.STAGE, "r1", 1, "ada", goal, (Step.STAGE,), self.layout, Options(allow=allow))
        found = preflight(an_instance(machine, record, layout), request, seen, str(staged) if staged else None).findings
        return {one.reason: one for one in found}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    own = Nginx(tmp_path, tmp_path / "nginx", free_port())
    (tmp_path / "more").mkdir()
    shutil.copy("/usr/sbin/nginx", own.binary)
    (tmp_path / "nginx.conf").write_text(CONFIG.format(port=own.port, temporary=TEMPORARY))
    started = [
        str(own.binary),
        "-p",
        f"{tmp_path}/",
        "-c",
        "nginx.conf",
        "-e",
        "error.log",
        "-g",
        "timer_resolution 1s; env A;",
    ]
    subprocess.run(started, check=True, capture_output=True, timeout=30)
    wait_until(lambda: [len(master.accepting) for master in own.look().masters] == [2], "a master with two workers")
    pid = own.pid()
    yield own
    os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release("new", tmp_path_factory.mktemp("release") / "nginx")


def test_an_ordinary_nginx_and_a_good_release_give_no_finding(nginx: Nginx, release: Path) -> None:
    assert nginx.judged(release) == {}
    assert Path(f"/proc/{nginx.pid()}").exists()
    assert not (nginx.folder / "nginx.pid.oldbin").exists()


def test_without_the_release_all_that_does_not_need_it_is_looked_at(nginx: Nginx) -> None:
    assert set(nginx.judged(None)) == {"not_staged"}, nginx.judged(None)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "cannot_run"),
        ("wrong-arch", "wrong_architecture"),
        ("missing-lib", "library_missing"),
        ("bad-config", "config_rejected"),
        ("not-executable", "cannot_run"),
    ],
)
def test_a_bad_release_is_found_out_before_anything_has_begun(
    nginx: Nginx, tmp_path: Path, kind: str, reason: str
) -> None:
    bad = make_release(kind, tmp_path / "release")

    found = nginx.judged(bad)

    assert set(found) == {reason}
    assert found[reason].severity is Severity.REFUSAL


def test_nginxs_own_words_are_passed_on(nginx: Nginx, tmp_path: Path) -> None:
    found = nginx.judged(make_release("bad-config", tmp_path / "release"))

    assert 'unknown directive "worker_processes"' in found["config_rejected"].message


def test_a_module_of_another_version_is_what_must_be_corrected(nginx: Nginx, release: Path) -> None:
    module, config = make_module(nginx.folder / "m.so", 1026002), nginx.folder / "nginx.conf"
    config.write_text(f"load_module {module};\n{config.read_text()}")

    found = nginx.judged(release)

    assert "config_rejected" not in found
    assert found["module_mismatch"].message.startswith(f"The module {module} does not fit the new binary: it is for")
    assert "Put the file that was built together with the new binary there" in found["module_mismatch"].remedy


def test_nothing_is_tested_and_no_pid_file_is_made_when_it_is_missing(nginx: Nginx, release: Path) -> None:
    pid_file = nginx.folder / "nginx.pid"
    kept = pid_file.read_text()
    pid_file.unlink()

    found = nginx.judged(release)

    assert "pid_file_missing" in found
    assert f"echo {kept.strip()} > {pid_file}" in found["pid_file_missing"].remedy
    assert not pid_file.exists()
    pid_file.write_text(kept)


def test_all_reasons_come_at_once(nginx: Nginx, tmp_path: Path) -> None:
    kept = (nginx.folder / "nginx.pid").read_text()
    (nginx.folder / "nginx.pid").write_text("")
    nginx.binary.unlink()

    found = nginx.judged(make_release("truncated", tmp_path / "release"))

    assert set(found) == {"pid_file_empty", "binary_missing", "cannot_run"}
    (nginx.folder / "nginx.pid").write_text(kept)


def test_a_configuration_written_since_is_pending_until_it_is_reloaded_or_allowed(nginx: Nginx, release: Path) -> None:
    text = f"server {{ listen 127.0.0.1:{free_port()}; }}"
    nginx.write(text)
    while not (found := nginx.judged(release)).get("pending_config"):
        nginx.write(text)  # within a second of the start it counts as loaded

    assert found["pending_config"].severity is Severity.REFUSAL
    assert "listener_added" in found
    assert nginx.judged(release, allow=("pending-config",))["pending_config"].severity is Severity.WARNING

    before = {worker.pid for worker in nginx.look().masters[0].workers}
    os.kill(nginx.pid(), signal.SIGHUP)
    while before & {worker.pid for worker in nginx.look().masters[0].workers}:
        pass

    assert nginx.judged(release) == {}


def test_a_running_release_needs_nothing(nginx: Nginx) -> None:
    assert nginx.judged(nginx.binary) == {}


def test_two_masters_of_another_rollout_are_another_operator_s_upgrade(nginx: Nginx, release: Path) -> None:
    old = nginx.pid()
    os.kill(old, signal.SIGUSR2)
    while len(nginx.look().masters) < 2 or nginx.look().pid_file_pid in (None, old):
        pass
    mine = Record("r1", 1, "ada", "0" * 64, "1" * 64, "1" * 64, "", State.BEGUN)

    assert set(nginx.judged(release)) == {"upgrade_in_progress"}
    assert set(nginx.judged(release, record=mine._replace(rollout="r0"))) == {"upgrade_in_progress"}
    assert set(nginx.judged(release, record=mine)) == set()

    os.kill(nginx.pid(), signal.SIGTERM)
    while len(nginx.look().masters) > 1:
        pass


def test_a_user_other_than_root_gets_only_that_refusal() -> None:
    found = preflight(an_instance(RecordedMachine(uid=1000)), a_request(), a_look(a_master()), None).findings

    assert [one.reason for one in found] == ["no_root"]


def test_a_release_is_not_sent_to_a_host_that_could_not_take_it() -> None:
    rooms = {"/var/lib": {"f_bavail": 1, "f_flag": os.ST_NOEXEC}}
    full = RecordedMachine(stats={"/var/lib": {}}, rooms=rooms, locks={"/var/lib/dpkg/lock": 7})

    found = before_staging(full, a_request())

    assert [one.reason for one in found] == ["state_noexec", "package_lock", "disk_full"]
    assert [one.reason for one in before_staging(RecordedMachine(uid=1), a_request())] == ["no_root"]


def test_a_host_that_tells_nothing_raises_nothing() -> None:
    found = preflight(an_instance(RecordedMachine()), a_request(), a_look(a_master()), "/s").findings

    assert {"pid_file_missing", "wrong_architecture", "not_checked"} <= {one.reason for one in refusals(found)}
