"""The options of a rollout: its batches, when it stops, what it risks.

`upgrade` declares them with their defaults. `resume` declares them as overrides: an option that is not given keeps the setting
the rollout started with.
"""

from typing import Any

import rich_click as click
from click.core import ParameterSource

from fleet.errors import Refused
from fleet.options.help_layout import ROLLOUT, SAFETY
from fleet.options.shared import Decorator, option, together
from fleet.options.value_types import Duration

KEEPS = {"default": None, "show_default": "the rollout's own setting"}
OVERRIDABLE = (
    "answers-differ, fifo-blocks, memory-short, modules-gone, not-checked, not-rehearsed, path-changed, path-differs, "
    "pending-config, poisoned, probe-fails-already, quic, rehearsal-inconclusive"
)


def pace_options(overrides: bool = False) -> Decorator:
    """Batches, and what happens to each of them."""
    return together(
        option(
            "--batches",
            env="BATCHES",
            panel=ROLLOUT,
            metavar="SIZES",
            help="Sizes of the successive batches, as numbers of hosts or percent of all; the last size repeats.",
            **_default("1,10%,50%,100%", overrides),
        ),
        option(
            "--bake",
            "bake_s",
            env="BAKE",
            panel=ROLLOUT,
            type=Duration(),
            help="How long to watch a batch before the next one starts.",
            **_default("30s", overrides),
        ),
        option(
            "--commit",
            env="COMMIT",
            panel=ROLLOUT,
            metavar="WHEN",
            type=click.Choice(["end", "batch", "never", "when-drained"]),
            help="When to retire the held old masters: at the end, after the bake of each batch, never (until you "
            "run fleet commit), or when-drained (at the end, by each host itself once its old connections have ended).",
            **_default("end", overrides),
        ),
        option(
            "--settle",
            "settle_s",
            env="SETTLE",
            panel=ROLLOUT,
            type=Duration(),
            help="How long new workers must stay stable before the old workers drain.",
            **_default("2s", overrides),
        ),
    )


def budget_options(overrides: bool = False) -> Decorator:
    """How many hosts may fail, and what happens then."""
    return together(
        option(
            "--max-failures",
            env="MAX_FAILURES",
            panel=SAFETY,
            metavar="COUNT",
            help="How many hosts may fail, as a number or a percentage of all; unreachable hosts count. When more fail, no "
            "further host is started.",
            **_default("0", overrides),
        ),
        option(
            "--on-failure",
            env="ON_FAILURE",
            panel=SAFETY,
            metavar="ACTION",
            type=click.Choice(["rollback", "halt", "continue"]),
            help="What to do when more hosts fail than that: rollback (every host that was started), halt (leave all as "
            "they are), or continue (upgrade the remaining hosts).",
            **_default("rollback", overrides),
        ),
    )


def lease_option(overrides: bool = False) -> Decorator:
    """The host's own dead-man's switch."""
    return option(
        "--lease",
        "lease_s",
        env="LEASE",
        panel=SAFETY,
        type=Duration(),
        help="A host rolls itself back if fleet neither visits nor commits it for this long; off disables this.",
        **(KEEPS if overrides else {"show_default": "10m; off with --commit never"}),
    )


def within_option(what: str, overrides: bool = False) -> Decorator:
    """How long a host may wait that retires its old master by itself, after the words `what`."""
    return option(
        "--within",
        "within_s",
        env="WITHIN",
        panel=SAFETY,
        type=Duration(),
        help=f"{what} how long old connections may take. Then the host stays held, or closes them with --cut.",
        **_default("24h", overrides),
    )


def refuse_lone_within(ctx: click.Context, leaves_to_hosts: bool) -> None:
    """Raises `Refused` where `--within` was typed for a commit that fleet itself waits for: it would mean nothing."""
    if not leaves_to_hosts and ctx.get_parameter_source("within_s") is ParameterSource.COMMANDLINE:
        raise Refused(
            "--within is for a commit that is left to the hosts; this one waits for the old connections itself.",
            "Add --when-drained (commit) or --commit when-drained (upgrade); or give --drain-timeout instead.",
        )


def drain_options(timeout: str, overrides: bool = False) -> Decorator:
    """How long old connections may take, as the sentence `timeout` says, and what happens to those that are left."""
    return together(
        option(
            "--drain-timeout",
            "drain_timeout_s",
            env="DRAIN_TIMEOUT",
            panel=SAFETY,
            type=Duration(),
            help=timeout,
            **_default("10m", overrides),
        ),
        option(
            "--cut/--no-cut" if overrides else "--cut",
            "cut",
            env="CUT",
            panel=SAFETY,
            help="Once that time has passed, close the connections that are left.",
            **(KEEPS if overrides else {"is_flag": True}),
        ),
    )


COMMIT_DRAINS = "How long to wait for the old master's connections to end."
COMMIT_WITHIN, UPGRADE_WITHIN = "With --when-drained:", "With --commit when-drained:"
ROLLBACK_DRAINS = "On committed hosts: how long to wait for the upgraded master's connections to end."


def allow_overwrite_option() -> Decorator:
    """The one risk that the operator of a rollback can accept."""
    return _allow(
        "Accept the risk of this refusal, which is then recorded. REASON is path-changed: a file at nginx's path that is "
        "neither the rollout's release nor the one before it, such as that of a newer package, is overwritten."
    )


def allow_option(overrides: bool = False) -> Decorator:
    """The risks that the operator accepts."""
    more = " Added to what the rollout started with." if overrides else ""
    return _allow(
        f"Accept the risk of this preflight refusal, which is then recorded. REASON is one of: {OVERRIDABLE}. Or "
        "log-line=PATTERN: log lines of the new release that do not count against it. PATTERN is a part of a line's text, "
        f"with * for any characters. Repeatable.{more}"
    )


def _allow(text: str) -> Decorator:
    return option("--allow", env="ALLOW", panel=SAFETY, multiple=True, metavar="REASON", show_default="none", help=text)


def hold_package_option(overrides: bool = False) -> Decorator:
    """Whether the package manager is told to leave nginx alone."""
    return option(
        "--hold-package/--no-hold-package" if overrides else "--hold-package",
        "hold_package",
        env="HOLD_PACKAGE",
        panel=SAFETY,
        help="Hold nginx's package on each host (apt-mark hold, dnf versionlock) before the first change, and release it at "
        "the commit or the rollback.",
        **(KEEPS if overrides else {"is_flag": True}),
    )


def rehearse_option(overrides: bool = False) -> Decorator:
    """Whether preflight rehearses the upgrade on each host."""
    return option(
        "--rehearse",
        env="REHEARSE",
        panel=SAFETY,
        metavar="WHEN",
        type=click.Choice(["auto", "off"]),
        help="Rehearse the upgrade in preflight, on a private copy of each host that no user meets: auto, or off.",
        **_default("auto", overrides),
    )


def guard_option(overrides: bool = False) -> Decorator:
    """Whether nginx's systemd unit is guarded while it is held."""
    return option(
        "--no-guard/--guard" if overrides else "--no-guard",
        "no_guard",
        env="NO_GUARD",
        panel=SAFETY,
        help="Do not guard nginx's systemd unit: a restart by hand, by needrestart or by a package then ends a held nginx.",
        **(KEEPS if overrides else {"is_flag": True}),
    )


def _default(value: str, overrides: bool) -> dict[str, Any]:
    return KEEPS if overrides else {"default": value}
