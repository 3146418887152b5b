"""What preflight gives: its findings, and the rehearsal that some of them come from."""

from typing import NamedTuple, Optional, Tuple

from fleet.onhost.protocol import Finding
from fleet.onhost.rehearsal.evidence import Rehearsal


class PreflightResult(NamedTuple):
    """All findings about an upgrade of this instance. `rehearsal` is `None` where none was asked for or made sense."""

    findings: Tuple[Finding, ...]
    rehearsal: Optional[Rehearsal] = None
