"""The errors that end a command. An error of one host is data (`HostOutcome`), never one of these.

The command line prints them as `fleet: MESSAGE REMEDY`. A message is a sentence with a capital and a full stop. It may begin
with a name as it was typed or found (an option, a file and its line, a host); after such a `NAME: ` it goes on in lower case.

FleetError                exit code   when
├── Refused               2           bad usage, inventory, release or plan; nothing was changed
│   ├── InventoryError    2           with file, line, what is wrong and what is allowed
│   ├── ReleaseError      2           the release is no file, or no nginx binary
│   └── JournalError      2           it can't be opened, read or written; during a run the engine stops the run
├── Interrupted           130         the operator pressed Ctrl-C before anything was changed
├── LockHeld              5           another run holds the lock of the journal or of the lab
├── HostsDidNotAnswer     4           commands.find_rollout: only hosts without an answer may know the rollout
└── TrafficError          1           lab.traffic.load: the load generator of the lab broke
"""

from fleet.onhost.text import sentences


class FleetError(Exception):
    """An error with a message for the operator; `remedy` says what to do."""

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return sentences(self.message, self.remedy)

    @property
    def lines(self) -> tuple[str, ...]:
        """The error as the lines that the command line prints."""
        return (str(self),)


class Refused(FleetError):
    """The command was refused before it changed anything."""

    exit_code = 2


class Interrupted(FleetError):
    """The operator interrupted the command before it changed anything."""

    exit_code = 130


class InventoryError(Refused):
    """The inventory is invalid. `where` is `file:line` where that is known; several problems are a line each."""

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, remedy)
        self.where = where

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(str(self).splitlines())


class ReleaseError(Refused):
    """The file is missing or is not an nginx binary."""


class JournalError(Refused):
    """The journal can't be opened, read or written; the message names it."""


class LockHeld(FleetError):
    """Another run holds the lock; the message names it."""

    exit_code = 5
