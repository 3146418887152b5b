"""How a run ended: the result, the exit code, and one line that says what is so and which command comes next.

codes.py          the exit codes, and what all last lines share
refusals.py       nothing was changed
interruptions.py  the run broke off
ends.py           the plan of an upgrade was done, or too many hosts failed

The ends of a commit and of a rollback stand beside their decisions. May import the rest of `rollout`, except decisions.
"""

from fleet.rollout.results.codes import (
    HALTED,
    HELD_BY_OTHERS,
    INTERRUPTED,
    OK,
    PERSON,
    REFUSED,
    line,
    names,
    needs_person,
    see_status,
    some_of,
)
from fleet.rollout.results.ends import (
    completed,
    drain_pending,
    left_to_hosts,
    no_host_passed,
    over_budget,
    rolled_back,
)
from fleet.rollout.results.interruptions import stopped
from fleet.rollout.results.refusals import (
    epoch_too_high,
    held_by_others,
    leaving_out,
    nothing_to_resume,
    refused,
    same_nginx,
)

__all__ = [
    "HALTED",
    "HELD_BY_OTHERS",
    "INTERRUPTED",
    "OK",
    "PERSON",
    "REFUSED",
    "completed",
    "drain_pending",
    "epoch_too_high",
    "held_by_others",
    "leaving_out",
    "left_to_hosts",
    "line",
    "names",
    "needs_person",
    "no_host_passed",
    "nothing_to_resume",
    "over_budget",
    "refused",
    "rolled_back",
    "same_nginx",
    "see_status",
    "some_of",
    "stopped",
]
