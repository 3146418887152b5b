"""How far an upgrade can be rehearsed on this host, by what is known before.

A rehearsal of what preflight refuses anyway costs time, and its lines would hide the reason. Where no USR2 could succeed (the
master does not hear it, the pid file can't be renamed), the new release is rehearsed alone, so that all reasons come at once.
"""

from enum import Enum
from typing import Optional

from fleet.onhost.nginx.binary import Build
from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.preflight.master import is_single_process, other_view
from fleet.onhost.preflight.release import are_compatible, moved_paths
from fleet.onhost.preflight.subject import Subject


class Manner(Enum):
    """How an upgrade is rehearsed."""

    NOT = "not"
    ALONE = "alone"
    """Only the new release, started as the running one was."""
    WHOLE = "whole"
    """The running release, which gets USR2."""


def manner_of(
    subject: Subject, old: Optional[Build], new: Optional[Build], config: Optional[ConfigFiles], can_launch: bool
) -> Manner:
    """How the upgrade of this master is rehearsed. `new` is `None` when the release can't be executed, or is not there;

    `can_launch` says whether a USR2 to the running master could succeed.
    """
    if new is None or subject.staged is None or not subject.command.program.startswith("/"):
        return Manner.NOT
    if old is not None and (not are_compatible(old, new) or moved_paths(old, new, subject.command)):
        return Manner.NOT  # It would read other files.
    path = subject.seen.path
    if subject.old.pid == 1 or is_single_process(subject, config) or (path and other_view(subject, path)):
        return Manner.NOT
    return Manner.WHOLE if can_launch else Manner.ALONE
