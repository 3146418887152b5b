"""What `fleet status` says of nginx's systemd unit: its guard, and the process that systemd follows."""

from fleet.onhost.protocol import Phase, Record
from fleet.onhost.views import UnitView
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.status_table import table
from tests.support.pretend.visits import NEW, OLD, a_fleet
from tests.support.screens import as_text


def shown_with(unit: UnitView, is_held: bool = True) -> str:
    host = a_fleet(1).hosts["web-01"]
    if is_held:
        host.held, host.runs = OLD, NEW
    status = RolloutStatus("look", {"web-01": HostStatus("web-01", report=host.report()._replace(unit=unit))})
    return as_text(table(status), 600)


def test_status_says_that_a_held_host_is_guarded_and_how_a_guard_that_is_left_goes() -> None:
    unit = UnitView("nginx.service", 812, "active", True, "/run/systemd/system/nginx.service.d/zz-fleet.conf")

    assert "Guarded: `systemctl restart nginx` and `systemctl stop nginx` are refused until" in shown_with(unit)
    left = shown_with(unit, is_held=False)
    assert "rm /run/systemd/system/nginx.service.d/zz-fleet.conf && systemctl daemon-reload" in left
    assert "Guarded" not in shown_with(unit._replace(guard=None))


def test_a_guard_without_a_hold_in_a_rollout_that_is_not_over_leads_to_a_rollback() -> None:
    unit = UnitView("nginx.service", 812, "active", True, "/run/systemd/system/nginx.service.d/zz-fleet.conf")
    host = a_fleet(1).hosts["web-01"]
    host.held, host.runs = OLD, NEW
    report = host.report()
    record = Record("r-1", 1, "ann@laptop", NEW, OLD, OLD, "2026-12-01T07:14:28.862Z")
    alone = report._replace(phase=Phase.SWAPPED, masters=report.masters[:1], unit=unit, record=record)

    shown = as_text(table(RolloutStatus("look", {"web-01": HostStatus("web-01", report=alone)})), 600)

    assert "the rollout is not over: type `fleet rollback`." in shown
    assert "rm /run" not in shown


def test_a_unit_that_nginx_has_outlived_is_not_told_but_started_anew() -> None:
    shown = shown_with(UnitView("nginx.service", 0, "failed", follows=False))

    assert "kill -QUIT 812, then systemctl start nginx.service" in shown
    assert "systemd-notify" not in shown


def test_status_warns_of_a_unit_that_follows_another_process() -> None:
    shown = shown_with(UnitView("nginx.service", 4711, "active", follows=False))

    assert "systemd takes pid 4711 for the main process" in shown
    assert "systemd-notify --pid=812" in shown
