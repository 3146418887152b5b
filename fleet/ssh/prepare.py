"""What must be known before the first visit begins: secrets are asked for once, in the main thread, for all hosts."""

from collections.abc import Callable, Sequence

from fleet.host import Host
from fleet.ssh.password import bring_become_password
from fleet.task import Connecting

AskSecret = Callable[[str], str]
"""Asks the person at the terminal, without echo; the prompt is given. Raises `Refused` when there is nobody."""


def prepare(hosts: Sequence[Host], connecting: Connecting, ask: AskSecret) -> None:
    """Everything that the visits of these hosts will need to be told by a person is in `secrets.SECRETS`."""
    bring_become_password(hosts, connecting, ask)
