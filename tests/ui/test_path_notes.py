"""The lines of status about the file at the path, where it is another one than runs."""

from fleet.onhost.protocol import Phase, Record, Report, State
from fleet.onhost.views import PackageView
from fleet.rollout.host_status import HostStatus
from fleet.ui.status_notes import status_notes
from tests.support.pretend.visits import NEW, OLD, a_fleet

OTHER = "c" * 64
RECORD = Record("r1", 1, "ann@desk", NEW, OLD, OLD, "2026-11-23T10:00:00.000Z")
PACKAGE = PackageView("nginx", "1.22.1-9+deb12u9", is_its_file=True)


def notes(report: Report) -> str:
    return "\n".join(status_notes(HostStatus("web-01", report=report)))


def a_report(**more: object) -> Report:
    plain: dict[str, object] = {"phase": Phase.NEW, "running_sha256": NEW, "path_sha256": OTHER, "record": RECORD}
    return a_fleet(1).hosts["web-01"].report()._replace(**{**plain, **more})  # type: ignore[arg-type]  # each its own type


def test_a_packages_file_that_does_not_run_is_named_with_its_version() -> None:
    assert (
        "The path holds nginx 1.22.1-9+deb12u9 of package nginx, which does not run: it starts at the next restart or reboot."
        in notes(a_report(package=PACKAGE))
    )


def test_a_file_of_no_package_is_named_by_what_it_says_of_itself() -> None:
    said = notes(a_report(path_version="1.27.0"))

    assert "The path holds nginx 1.27.0 (cccccccc), a file of no package, which does not run" in said


def test_a_file_that_is_not_the_packages_is_said_not_to_be() -> None:
    said = notes(a_report(path_version="1.27.0", package=PACKAGE._replace(is_its_file=False)))

    assert (
        "nginx 1.27.0 (cccccccc), which is not the file of package nginx 1.22.1-9+deb12u9, which does not run" in said
    )


def test_a_path_without_a_file_is_said() -> None:
    assert "holds no file" in notes(a_report(path_sha256=None))


def test_the_file_that_an_upgrade_under_way_has_put_there_is_no_news() -> None:
    for phase in (Phase.SWAPPED, Phase.OVERLAP):
        assert "The path" not in notes(a_report(phase=phase, running_sha256=OLD, path_sha256=NEW))
    committed = RECORD._replace(state=State.COMMITTED)
    assert "The path" not in notes(a_report(path_sha256=NEW, record=committed, package=PACKAGE))


def test_who_committed_is_said_with_what_to_type_until_it_is_written_down() -> None:
    by = "the package nginx 1.22.1-9+deb12u9, installed 2026-11-23 10:00:05 UTC"
    said = notes(a_report(committed_by=by))
    assert f"Committed by someone else: the old master was ended by {by}. Type `fleet commit`" in said

    written = notes(a_report(committed_by=by, record=RECORD._replace(state=State.COMMITTED)))
    assert by in written
    assert "fleet commit" not in written


def test_a_held_hosts_package_that_is_on_hold_is_said() -> None:
    held = a_report(held=True, phase=Phase.TRIAL, path_sha256=NEW, package=PACKAGE._replace(on_hold=True))

    assert "The package nginx is on hold" in notes(held)
    assert "on hold" not in notes(held._replace(held=False))
