"""fleet holds nginx's package and releases just what it has held, whatever dies in between."""

import pytest

from fleet.onhost.packages.owner import Manager
from fleet.onhost.state.package_hold import FILE, NotDone, PackageHold, held_by_fleet, hold_package, release_package
from fleet.onhost.system.machine import Ran
from tests.support.onhost.kept import KeptInMemory
from tests.support.onhost.recorded import PATH, RecordedMachine

STATUS = "/var/lib/dpkg/status"
HELD = PackageHold(Manager.DPKG, "nginx")


class Debian(RecordedMachine):
    """A host with nginx's package. `wants` is its state of selection; `apt-mark` fails with `problem`, where there is one."""

    def __init__(self, wants: str = "install", problem: str = "") -> None:
        super().__init__(texts={STATUS: ""})
        self.wants = wants
        self.problem = problem
        self.marked: list[str] = []

    def run(self, argv: tuple[str, ...], timeout_s: float, env: dict[str, str] | None = None, cwd: str = "/") -> Ran:
        if argv[0] == "apt-mark":
            self.marked.append(argv[1])
            if self.problem:
                return Ran(100, f"E: Something\n{self.problem}\n", 0.1)
            self.wants = {"hold": "hold", "unhold": "install"}[argv[1]]
            self.texts[STATUS] += "x"  # the database changes, so fleet asks again
            return Ran(0, f"nginx set to {self.wants}.\n", 0.1)
        said = {"-S": f"nginx: {PATH}\n", "-W": f"nginx\t1.22.1-9\t{self.wants}\n", "--control-show": ""}
        return Ran(0, said[argv[1]], 0.1)


def test_a_package_is_held_and_released_again() -> None:
    machine = Debian()
    own = KeptInMemory(machine)

    hold_package(own, PATH)
    assert (held_by_fleet(own), machine.wants) == (HELD, "hold")

    release_package(own)
    assert (held_by_fleet(own), machine.wants) == (None, "install")


def test_a_package_that_a_person_holds_is_neither_held_nor_released() -> None:
    machine = Debian(wants="hold")
    own = KeptInMemory(machine)

    hold_package(own, PATH)
    release_package(own)

    assert (machine.wants, machine.marked) == ("hold", [])


def test_a_second_visit_leaves_the_hold_of_the_first_as_fleets() -> None:
    machine = Debian()
    own = KeptInMemory(machine)

    hold_package(own, PATH)
    hold_package(own, PATH)

    assert (held_by_fleet(own), machine.marked) == (HELD, ["hold"])


def test_a_hold_that_fails_says_why_and_leaves_no_note() -> None:
    own = KeptInMemory(Debian(problem="E: Could not get lock /var/lib/dpkg/lock"))

    with pytest.raises(NotDone, match="Could not get lock") as failed:
        hold_package(own, PATH)

    assert failed.value.command == "apt-mark hold nginx"
    assert held_by_fleet(own) is None


def test_a_release_that_fails_is_tried_again_later() -> None:
    machine = Debian(wants="hold", problem="E: Could not get lock /var/lib/dpkg/lock")
    own = KeptInMemory(machine, **{FILE.removesuffix(".json"): HELD})

    with pytest.raises(NotDone):
        release_package(own)
    assert held_by_fleet(own) == HELD

    machine.problem = ""
    release_package(own)
    assert (held_by_fleet(own), machine.wants) == (None, "install")


def test_a_file_of_no_package_needs_no_hold() -> None:
    own = KeptInMemory(RecordedMachine())

    hold_package(own, PATH)

    assert held_by_fleet(own) is None


def test_fleet_does_not_hold_what_it_can_not() -> None:
    said = Ran(0, f"{PATH} is owned by nginx-1.26.2-r0\n", 0.1)
    machine = RecordedMachine(texts={"/lib/apk/db/installed": ""}, runs={("apk", "info", "--who-owns", PATH): said})

    with pytest.raises(NotDone, match="apk"):
        hold_package(KeptInMemory(machine), PATH)
