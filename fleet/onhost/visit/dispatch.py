"""Answers a request: finds the instance, has the request answered, and reports on the host.

A look is the most frequent request, and often the only one: for `fleet status` a host starts a Python for it. So only what
a look needs is imported here; the modules that act come with the first request that may.
"""

import sys
from typing import Callable, Optional, Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.protocol import Ask, Outcome, Reply, Report, Request
from fleet.onhost.remembered import Remembered
from fleet.onhost.report.report import report
from fleet.onhost.system.machine import Machine
from fleet.onhost.visit.end import End, ended
from fleet.onhost.visit.locate import locate
from fleet.onhost.wire import Malformed

Say = Callable[[Reply], None]


def serve(
    machine: Machine, request: Request, say: Say, go_on: Callable[[], None], remembered: Optional[Remembered] = None
) -> Tuple[End, Optional[Report]]:
    """How the visit ended, and the host's report afterwards. `remembered`: of earlier requests of this conversation."""
    instance = Instance.at(machine, locate(machine, request.layout), remembered)
    try:
        end = End(Outcome.DONE) if request.ask is Ask.LOOK else _answered(instance, request, say, go_on)
        return end, report(instance)._replace(rehearsal=end.rehearsal)
    except Malformed as error:
        return ended(Outcome.FAILED, "bad_record", error=error), None
    except OSError as error:
        return ended(Outcome.FAILED, "host_io", error=error), _report_anyway(instance)
    except Exception as error:  # A bug of fleet's: without an answer the controller would take it for a lost link.
        sys.excepthook(*sys.exc_info())
        words = "%s: %s" % (type(error).__name__, error)
        return ended(Outcome.FAILED, "bug", error=words), _report_anyway(instance)


def _report_anyway(instance: Instance) -> Optional[Report]:
    try:
        return report(instance)
    except Exception:  # The visit's end already says what is wrong.
        return None


def _answered(instance: Instance, request: Request, say: Say, go_on: Callable[[], None]) -> End:
    from fleet.onhost.visit.answer import answer
    from fleet.onhost.visit.request import Visit

    return answer(Visit(instance, request, say, go_on))
