"""The guard as text: whom it names, and that instances which share a unit share it."""

import pytest

from fleet.onhost.system.machine import Ran
from fleet.onhost.systemd import guard
from fleet.onhost.systemd.by_hand import drop_in_path, no_guard
from fleet.onhost.systemd.guard import Hold
from fleet.onhost.systemd.service_manager import NoAnswer, ServiceManager
from fleet.onhost.systemd.unit import PROPERTIES, Unit
from tests.support.onhost.recorded import RecordedMachine

UNIT = Unit("nginx.service", "forking", "/run/nginx.pid", 812)
PATH = drop_in_path(UNIT.name)
ANNA = Hold("aa11", "r1", "anna@desk", "2026-12-01T07:00:00.000Z")
BOB = Hold("bb22", "r2", "bob@couch\n[Service]\nExecStop=/bin/false", "2026-12-01T07:05:00.000Z")


class WritableMachine(RecordedMachine):
    """A recorded host whose /run can be written."""

    def make_public_folder(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        self.folders[parent] = tuple({*self.folders.get(parent, ()), name})

    def remove_empty_folder(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        self.folders[parent] = tuple(one for one in self.folders.get(parent, ()) if one != name)

    def write(self, path: str, text: str, mode: int = 0o600, lasting: bool = True) -> None:
        self.texts[path] = text

    def unlink(self, path: str) -> None:
        self.texts.pop(path, None)


def a_host(reload_code: int = 0, refuses: str = "yes") -> WritableMachine:
    shown = f"Id=nginx.service\nType=forking\nMainPID=812\nRefuseManualStop={refuses}\n"
    return WritableMachine(
        runs={
            ("systemctl", "daemon-reload"): Ran(reload_code, "", 0.1),
            ("systemctl", "show", "--property=" + PROPERTIES, "--", "nginx.service"): Ran(0, shown, 0.1),
        }
    )


def reloads(host: RecordedMachine) -> int:
    return host.ran.count(("systemctl", "daemon-reload"))


def test_the_guard_names_the_rollout_and_how_it_is_removed() -> None:
    host = a_host()

    guard.on(ServiceManager(host), UNIT, ANNA)

    text = host.texts[PATH]
    assert "RefuseManualStop=yes" in text
    assert "rollout r1 by anna@desk, begun 2026-12-01T07:00:00.000Z" in text
    assert f"#   {no_guard('nginx.service')}" in text
    assert "ExecReload" not in text
    assert guard.guarded(host, "aa11") == ["nginx.service"]


def test_a_guard_that_is_on_is_not_written_again() -> None:
    host = a_host()
    guard.on(ServiceManager(host), UNIT, ANNA)

    guard.on(ServiceManager(host), UNIT._replace(refuses_stop=True), ANNA)

    assert reloads(host) == 1


def test_a_unit_that_two_instances_share_is_guarded_until_the_last_one_is_over() -> None:
    host = a_host()
    guard.on(ServiceManager(host), UNIT, ANNA)
    guard.on(ServiceManager(host), UNIT, BOB)

    guard.off(ServiceManager(host), UNIT.name, "aa11")
    assert (guard.guarded(host, "aa11"), guard.guarded(host, "bb22")) == ([], ["nginx.service"])
    assert "RefuseManualStop=yes" in host.texts[PATH]

    guard.off(ServiceManager(host), UNIT.name, "bb22")
    assert PATH not in host.texts


def test_an_operators_name_can_not_add_a_line_to_the_unit() -> None:
    host = a_host()

    guard.on(ServiceManager(host), UNIT, BOB)

    assert [line for line in host.texts[PATH].splitlines() if line.startswith(("ExecStop", "[Service]"))] == [
        "[Service]"
    ]


def test_a_reload_by_the_main_process_is_replaced_while_the_guard_is_on() -> None:
    host = a_host()
    host.texts["/unit"] = "[Service]\nExecReload=/bin/kill -HUP $MAINPID\n"

    guard.on(ServiceManager(host), UNIT._replace(files=("/unit", PATH)), ANNA)

    assert "ExecReload=\nExecReload=/bin/sh -c '/bin/kill -HUP $$(cat /run/nginx.pid)'\n" in host.texts[PATH]


@pytest.mark.parametrize(
    ("code", "refuses"), [(124, "yes"), (1, "yes"), (0, "no")], ids=["hangs", "fails", "ignores it"]
)
def test_a_guard_that_systemd_does_not_take_leaves_nothing_behind(code: int, refuses: str) -> None:
    host = a_host(code, refuses)

    with pytest.raises(NoAnswer):
        guard.on(ServiceManager(host), UNIT, ANNA)

    assert PATH not in host.texts


def test_a_guard_that_can_not_be_removed_stays_where_it_is_seen() -> None:
    host = a_host()
    guard.on(ServiceManager(host), UNIT, ANNA)
    host.runs["systemctl", "daemon-reload"] = Ran(1, "no", 0.1)

    with pytest.raises(NoAnswer):
        guard.off(ServiceManager(host), UNIT.name, "aa11")

    assert guard.guarded(host, "aa11") == ["nginx.service"]


def test_systemd_that_hangs_is_asked_once_in_a_visit() -> None:
    host = a_host(124)
    manager = ServiceManager(host)

    for _ in range(3):
        with pytest.raises(NoAnswer):
            manager.reload_files()

    assert reloads(host) == 1
