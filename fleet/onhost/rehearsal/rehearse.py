"""Rehearses the upgrade of a running master."""

from typing import Tuple

from fleet.onhost.instance import Instance
from fleet.onhost.observation import Master
from fleet.onhost.protocol import Probe
from fleet.onhost.rehearsal.evidence import Rehearsal


def rehearse(instance: Instance, master: Master, binary: str, probes: Tuple[Probe, ...], alone: bool) -> Rehearsal:
    """What both generations showed when the upgrade of `master` to `binary` was rehearsed; `alone`: only the new one's.

    Nothing on the host changes. Never raises: a rehearsal that can't be had says why.
    """
    return Rehearsal(why_not="it is not built yet")
