"""Root on a host whose login is not root: what is said to the start line until the command itself speaks.

First the host tries `sudo -n` (or `doas -n`), which never counts as a failed login. Where that isn't let in, the host
says so and waits; then `fleet.onhost.terminal` is sent, with the password if one was given, and tries once more on a
terminal of its own; from then on it is asked there at once. A password that a host has refused is never sent there
again, nor, while no host has accepted it, to another one (`Secrets.refused_at`).
"""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from fleet.host import Host
from fleet.onhost import terminal
from fleet.ssh.asking import place, remember
from fleet.ssh.command import Command
from fleet.ssh.secrets import SECRETS, Kind
from fleet.ssh.startline import BECOME_WORDS, BEGIN, MISSING, WANTS_ROOT, is_begin
from fleet.ssh.trouble import Refusal, printable

GO = b"go\n"
WRONG = BECOME_WORDS + b"wrong"
CALL = "\n\nimport sys\n\nsys.exit(main(sys.argv[1], sys.argv[2:]))\n"


def lines_as_root(command: Command, host: Host, pulse: Callable[[], float]) -> Iterator[bytes]:
    """The lines of a command begun by a line of `startline`, which became root first, where the inventory says how.

    Raises as `Command.lines` does, and `Refusal` when a password is wanted that is not there or was refused before.
    """
    begun = asked = False
    for line in command.lines(pulse):
        if not (host.become and line.startswith(WANTS_ROOT)):  # the password is for the hosts that are to have it
            refused = line.startswith(BECOME_WORDS)
            if asked and not begun and refused and SECRETS.get(Kind.BECOME) is not None:
                SECRETS.refuse(Kind.BECOME, place(host), as_wrong=line.startswith(WRONG))
            if asked and not refused and (line == BEGIN or line.startswith(MISSING)):
                remember(host)
                SECRETS.accept(Kind.BECOME)
            begun = begun or line == BEGIN
            yield line
        elif begun or asked:
            command.end()  # it did become root, and ended as sudo itself does when it refuses
        else:
            asked = True
            command.send(GO + _terminal_line() + _password(host, line) + b"\n")


def begins(line: bytes, command: Command) -> bool:
    """Whether the far end is ours from the next line on. Raises `Refusal`, with sudo's own words if it was that."""
    try:
        return is_begin(line)
    except Refusal as refusal:
        if not line.startswith(BECOME_WORDS):
            raise
        command.end()
        command.exit_status()  # sudo's own words come by another way than ours, and may come later
        if not command.stderr:
            raise
        said = f"{refusal.message} It said: {_without_script(command.stderr)}."
        raise Refusal(refusal.reason, said, refusal.remedy) from refusal


def _password(host: Host, line: bytes) -> bytes:
    """The password for this host, nothing when none was given. Raises `Refusal`."""
    secret = SECRETS.get(Kind.BECOME)
    user = printable(line[len(WANTS_ROOT) :].decode("utf-8", "replace")).strip()
    if secret is None and host.become_method == "doas":
        is_begin(b"%s %s %s" % (BECOME_WORDS + b"password", b"doas", user.encode()))
    refused_at = SECRETS.refused_at(Kind.BECOME, place(host)) if secret is not None else None
    if refused_at is not None:
        raise Refusal("become_password_wrong", *_not_tried(host, refused_at))
    return (secret or "").encode("utf-8", "surrogateescape")


def _not_tried(host: Host, refused_at: str) -> tuple[str, str]:
    """Why the password isn't tried on this host, and what to do."""
    again = "Run the command again with the right one; see first that the account was not locked (faillock)."
    what = f"The password for {host.become_method} was refused"
    if refused_at == place(host):
        return f"{what} here before in this run, and is not tried again.", again
    return (
        f"{what} at {refused_at}, and no host had accepted it: it is not tried here, lest a central account be locked.",
        f"{again} If only that host has another password, leave it out.",
    )


@cache
def _terminal_line() -> bytes:
    source = Path(terminal.__file__).read_text(encoding="utf-8")
    return repr(source + CALL).encode("utf-8") + b"\n"


def _without_script(complaint: str) -> str:
    """sudo repeats the whole command that it was asked for."""
    before, found, rest = complaint.partition("/bin/sh -c ")
    _, ends, after = rest.rpartition("' as ")
    return f"{before}/bin/sh -c …{ends}{after}" if found and ends else complaint
