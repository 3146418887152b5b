"""One request and the place it is about: what every answer to it needs."""

from typing import Callable, NamedTuple, Optional

from fleet.onhost.nginx.observe import Observer
from fleet.onhost.protocol import Finding, Reply, ReplyType, Request
from fleet.onhost.state.store import InstanceStore, Store
from fleet.onhost.system.machine import Machine

Say = Callable[[Reply], None]


class Visit(NamedTuple):
    """One request and the place it is about."""

    machine: Machine
    request: Request
    store: Store
    observer: Observer
    own: Optional[InstanceStore]
    say: Say
    go_on: Callable[[], None]

    def find(self, finding: Finding) -> None:
        """The finding is on its way to the operator."""
        self.say(
            Reply(
                ReplyType.FINDING,
                reason=finding.reason,
                message=finding.message,
                remedy=finding.remedy,
                severity=finding.severity,
                overridable=finding.overridable,
            )
        )
