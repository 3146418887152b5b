"""`--lease`: its default, and the leases that a rollout can't keep alive."""

from fleet.errors import Refused
from fleet.rollout.policy import Policy
from fleet.typed_command import UNTYPED, TypedCommand

LEASE_S, SHORTEST_LEASE_S = 600.0, 10.0
LOOK_S = 2.0
"""An upper bound for one look at a host; on a fast network it takes half a second."""


def check_lease(lease_s: float) -> float:
    """The lease, if it outlasts the time between two visits. Raises `Refused`."""
    if 0.0 < lease_s < SHORTEST_LEASE_S:
        raise Refused(
            f"--lease {lease_s:g}s is too short: hosts would roll back between two visits.",
            f"Allowed: {SHORTEST_LEASE_S:g}s or more, or off.",
        )
    return lease_s


def check_lease_renewal(policy: Policy, hosts: int, typed: TypedCommand = UNTYPED) -> Policy:
    """The policy, if `--parallel` visits can renew so many leases in time. Raises `Refused`."""
    if policy.lease_s and hosts * LOOK_S / policy.parallel > policy.renew_every_s:
        raise Refused(
            f"--parallel {policy.parallel} can't renew {hosts} leases of {policy.lease_s:g} s in time: some hosts would "
            "roll back while others are visited.",
            "Raise --parallel, choose a longer --lease, or switch it off: "
            f"{typed.having('lease_s', '--lease', 'off').quoted}.",
        )
    return policy
