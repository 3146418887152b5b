"""What `fleet status` shows stays a screen's worth, whatever a host says of itself."""

import io

from rich.console import Console

from fleet.onhost.protocol import MasterView, Phase, Report
from fleet.rollout.host_status import HostStatus
from fleet.rollout.rollout_status import RolloutStatus
from fleet.ui.status_table import host_document, table

MANY = 9_000


def test_thousands_of_masters_and_orphans_are_counted_on_the_screen_and_listed_in_the_document() -> None:
    masters = tuple(MasterView(pid, "a" * 64, "1.26.2", False, 2, 0) for pid in range(MANY))
    report = Report(
        Phase.FOREIGN, masters, "a" * 64, "1.26.2", "/nginx", "a" * 64, False, None, 0, orphans=tuple(range(MANY))
    )
    host = HostStatus("web-01", 1, report=report)
    status = RolloutStatus("r-1", {"web-01": host}, (("web-01",),))
    screen = io.StringIO()

    Console(file=screen, width=120).print(table(status))

    assert len(screen.getvalue().splitlines()) < 20
    assert "more" in screen.getvalue()
    assert (len(host_document(host)["masters"]), len(host_document(host)["orphans"])) == (MANY, MANY)
