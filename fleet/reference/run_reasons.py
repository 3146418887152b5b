"""The reasons of the run itself, for `docs/reasons.md`: those of events without a host, and those that the controller gives.

A test compares them with the code. `interrupted`, `taken_over` and `cut` are also reasons of a single host, in other tables.
"""

from collections.abc import Mapping
from types import MappingProxyType

RUN: Mapping[str, str] = MappingProxyType(
    {
        "budget": "More hosts failed than --max-failures allows, so the rollout goes back.",
        "cut": "Ctrl-C was pressed twice: fleet cuts all connections; `fleet status` shows where the hosts are.",
        "fleet_bug": "A bug in fleet ended the run; no further host is begun.",
        "interrupted": "Ctrl-C, a suspended laptop or a stopped fleet ended the run; running visits end in a resting phase.",
        "journal_lost": "The journal can't be written; no further host is begun, and a rollback continues without it.",
        "last_look": "The hosts that did not answer are asked once more before the run ends.",
        "lock_wait": "The run waits for a host that another run holds (--lock-wait).",
        "not_begun": "The host is left alone: it does not answer, and the journal shows that the rollout never began it.",
        "not_in_inventory": "The host is in the rollout, but the inventory does not have it.",
        "rollback_unfinished": "A rollback of this rollout began on the host and did not finish: `fleet rollback` finishes it.",
        "rolled_back": "The host is left alone: an operator rolled it back from this rollout.",
        "taken_over": "Another run took over the journal's lock; no further host is begun.",
    }
)
