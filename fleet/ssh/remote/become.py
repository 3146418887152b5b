"""Root on a host whose login is not root: what is said to the start line until the command itself speaks.

First the host tries `sudo -n` (or `doas -n`), which counts as no failed login. Where that isn't let in, the host
says so and waits; then `bootstrap/become_root.py` is sent, with the password if one was given, and tries once more on a
terminal of its own; from then on it is asked there at once. A password that a host has refused is never sent there
again, and none is sent to all hosts before one has taken it (`trial`).
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from fleet.host import Host
from fleet.onhost.bootstrap import become_root
from fleet.onhost.text import safe
from fleet.ssh.auth.password_gate import NotGiven, Trial
from fleet.ssh.auth.secrets import SECRETS, Kind
from fleet.ssh.link_errors import Refusal
from fleet.ssh.remote.become_memory import place, remember
from fleet.ssh.remote.command import Command
from fleet.ssh.remote.start_line import BECOME_WORDS, BEGIN, MISSING, WANTS_ROOT, is_begin

GO = b"go\n"
WRONG = BECOME_WORDS + b"wrong "
DENIED = BECOME_WORDS + b"denied "
"""The password was not enough, or it was wrong and sudo asks only once (passwd_tries), or nobody asked for it."""
NO_RULE = re.compile(r"is not in the sudoers file|not allowed to|may not run")
"""sudo's words for a login whose password was right: it looks at that first."""
CALL = "\n\nimport sys\n\nsys.exit(main(sys.argv[1], sys.argv[2:]))\n"


def lines_as_root(command: Command, host: Host, pulse: Callable[[], float]) -> Iterator[bytes]:
    """The lines of a command begun by a line of `startline`, which became root first, where the inventory says how.

    Raises as `Command.lines` does, and `Refusal` when a password is wanted that is not there or must not be given.
    """
    begun = False
    giving: _Giving | None = None
    try:
        for line in command.lines(pulse):
            # The password is for the hosts that are to have it, however another one may ask.
            if not (host.become and line.startswith(WANTS_ROOT)):
                if giving is not None and not begun:
                    giving.hear(line, command)
                begun = begun or line == BEGIN
                yield line
            elif begun or giving is not None:
                command.end()  # it did become root, and ended as sudo itself does when it refuses
            else:
                giving = _Giving(host, line)
                command.send(GO + _terminal_line() + giving.begin(pulse) + b"\n")
                command.got_on()  # what sudo tried without a password may have taken its time
    finally:
        if giving is not None:
            giving.end(None)


class _Giving:
    """The password on its way to a host that has said that it wants it; without one, the second try on a terminal."""

    def __init__(self, host: Host, wanted: bytes) -> None:
        self._host = host
        self._user = safe(wanted[len(WANTS_ROOT) :].decode("utf-8", "replace")).strip()
        self._trial: Trial | None = None

    def begin(self, proceed: Callable[[], object]) -> bytes:
        """The password, nothing when none was given. Waits for its turn. Raises `Refusal`, and what `proceed` raises."""
        secret = SECRETS.get(Kind.BECOME)
        if secret is None:
            if self._host.become_method == "doas":
                is_begin(b"%s %s %s" % (BECOME_WORDS + b"password", b"doas", self._user.encode()))
            return b""
        trial = SECRETS.trial(Kind.BECOME, self._user)
        try:
            trial.begin(place(self._host), proceed)
        except NotGiven as error:
            raise _not_given(self._host.become_method, error.refused_by) from None
        self._trial = trial
        return secret.encode("utf-8", "surrogateescape")

    def hear(self, line: bytes, command: Command) -> None:
        """What the host says after it was given the password tells whether it was right."""
        if line.startswith(WRONG):
            self.end(False)
        elif line.startswith(DENIED) and not line.rstrip().endswith(become_root.UNASKED.encode()):
            self.end(NO_RULE.search(_complaint(command)) is not None)
        elif line.startswith(BECOME_WORDS):
            self.end(None)
        elif line == BEGIN or line.startswith(MISSING):
            remember(self._host)
            self.end(True)

    def end(self, taken: bool | None) -> None:
        """The host took the password or refused it; what is said later of it doesn't count."""
        trial, self._trial = self._trial, None
        if trial is not None:
            trial.end(place(self._host), self._host.name, taken)


def _not_given(method: str, refused_by: tuple[str, ...]) -> Refusal:
    remedy = "Run the command again with the right one; see first that the account was not locked (faillock)."
    if not refused_by:
        said = f"The password for {method} was refused here before in this run, and is not tried again."
        return Refusal("become_password_wrong", said, remedy)
    return Refusal(
        "become_password_wrong",
        f"The password for {method} did not do on {' and '.join(refused_by)}, and no host has taken it: it is not given "
        "to this one, because a directory behind all of them would lock the account.",
        f"{remedy} If it is those hosts that have another one, leave them out with --limit.",
    )


def begins(line: bytes, command: Command) -> bool:
    """Whether the far end is ours from the next line on. Raises `Refusal`, with sudo's own words if it was that."""
    try:
        return is_begin(line)
    except Refusal as refusal:
        if not line.startswith(BECOME_WORDS):
            raise
        complaint = _complaint(command)
        if not complaint:
            raise
        said = f"{refusal.message} It said: {_without_script(complaint)}."
        raise Refusal(refusal.reason, said, refusal.remedy) from refusal


def _complaint(command: Command) -> str:
    """sudo's own words, which come by another way than ours, and may come later."""
    command.end()
    command.exit_status()
    return command.stderr


@cache
def _terminal_line() -> bytes:
    source = Path(become_root.__file__).read_text(encoding="utf-8")
    return repr(source + CALL).encode("utf-8") + b"\n"


def _without_script(complaint: str) -> str:
    """sudo repeats the whole command that it was asked for."""
    before, found, rest = complaint.partition("/bin/sh -c ")
    _, ends, after = rest.rpartition("' as ")
    return f"{before}/bin/sh -c …{ends}{after}" if found and ends else complaint
