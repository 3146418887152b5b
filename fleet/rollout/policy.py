"""The options that the operator chose for a rollout, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

WITHIN_S = 86400.0
CLAIM_S = 600.0
"""How long a claim lasts, in seconds, once its run no longer renews it. A rollback never waits for a claim."""


class OnFailure(Enum):
    """What happens when the budget is exceeded."""

    ROLLBACK = "rollback"
    HALT = "halt"
    CONTINUE = "continue"


class CommitWhen(Enum):
    """When the held old masters are retired.

    `WHEN_DRAINED`: the run leaves that to each host, at the end, which does it once its old connections have ended.
    """

    END = "end"
    BATCH = "batch"
    NEVER = "never"
    WHEN_DRAINED = "when-drained"


class Rehearse(Enum):
    """Whether preflight rehearses the upgrade: wherever a host can do so, or nowhere."""

    AUTO = "auto"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of a rollout. `max_failures` is a number of hosts; the rollout stops as soon as more have failed.

    A `lease_s` of 0 is no lease. `within_s` is how long a host may wait that retires its old master by itself. `lock_wait_s`
    is how long to wait for hosts that another run has.
    """

    bake_s: float = 30.0
    settle_s: float = 2.0
    max_failures: int = 0
    on_failure: OnFailure = OnFailure.ROLLBACK
    commit: CommitWhen = CommitWhen.END
    parallel: int = 50
    drain_timeout_s: float = 600.0
    within_s: float = WITHIN_S
    cut: bool = False
    allow: tuple[str, ...] = ()
    rehearse: Rehearse = Rehearse.AUTO
    guard: bool = True
    hold_package: bool = False
    lease_s: float = 0.0
    lock_wait_s: float = 0.0

    @property
    def retire_within_s(self) -> float:
        """How long the hosts may wait that retire their old masters by themselves, in seconds; 0: a commit waits itself."""
        return self.within_s if self.commit is CommitWhen.WHEN_DRAINED else 0.0

    @property
    def renew_every_s(self) -> float:
        """The longest time between two visits that renew a waiting host's lease and claim, in seconds."""
        return min(self.lease_s or CLAIM_S, CLAIM_S) / 2

    @property
    def look_every_s(self) -> float:
        """The time between two looks at a host during a bake, in seconds."""
        return min(max(self.bake_s / 6, 1.0), 10.0, self.renew_every_s)

    def to_plain(self) -> dict[str, Any]:
        """Every field as plain JSON, for the rollout's first event."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Policy":
        """The policy from what `to_plain` gave. A field that an older fleet did not write gets its default."""
        found = {field.name: field.default for field in fields(cls)}
        known = {name: plain[name] for name in found if name in plain}
        return cls(**{**found, **{name: _like(found[name], value) for name, value in known.items()}})


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _like(default: Any, value: Any) -> Any:
    """The JSON value, converted to the type of the field's default."""
    return type(default)(value)
