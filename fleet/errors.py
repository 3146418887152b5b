"""What ends a command before or instead of a rollout. A host's own trouble is data (`HostOutcome`), never one of these.

FleetError                exit code   when
├── Refused               2           bad usage, inventory, release or plan; nothing was changed
│   ├── InventoryError    2           with file, line, what is wrong and what is allowed
│   ├── ReleaseError      2           no such file, no ELF executable
│   └── JournalError      2           it can't be opened, read or written; in the middle of a run it turns the run back
└── LockHeld              5           somebody else is at work on the same thing: the same journal, the same lab
"""


class FleetError(Exception):
    """Something the operator must know; `remedy` says what to do now."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class Refused(FleetError):
    """Refused before anything was touched."""

    exit_code = 2


class Interrupted(FleetError):
    """The operator turned back before anything was changed."""

    exit_code = 130


class InventoryError(Refused):
    """The inventory is not what it must be: `where` is `file:line`, where known."""

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, remedy)
        self.where = where


class ReleaseError(Refused):
    """The release is no nginx binary that could run anywhere."""


class JournalError(Refused):
    """The journal can't be opened, read or written; the message names it."""


class LockHeld(FleetError):
    """Somebody else is at work on the same thing; the message names who."""

    exit_code = 5
