"""Becoming root by sudo or doas on a host whose login is not root.

The host first tries `sudo -n` (or `doas -n`), which counts as no failed login. If that is refused, the host says so and
waits. fleet then sends `bootstrap/become_root.py`, with the password if one was given, which tries once more on a terminal
of its own. For the rest of this process such an account is asked on a terminal at once: each refused `sudo -n` is a line
in the host's log.

A password that an account refused is not sent to it again, and no password is sent to all hosts before one of them has
accepted it (`auth/password_gate.py`). The password travels on stdin only.
"""

import re
import shlex
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fleet.host import Host
from fleet.onhost.bootstrap import become_root
from fleet.onhost.text import safe
from fleet.ssh.auth.password_gate import PasswordGate, PasswordWithheld
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.link_errors import HostRefused
from fleet.ssh.remote.start_line import BECOME_WORDS, BEGIN, MISSING, root_line

WANTS_ROOT = b"fleet-wants-root "
WRONG = BECOME_WORDS + b"wrong "
DENIED = BECOME_WORDS + b"denied "
"""The password is not enough; or it is wrong and sudo asks only once (passwd_tries); or no password was asked for."""
NO_RULE = re.compile(r"is not in the sudoers file|not allowed to|may not run")
"""sudo's words for a login without a rule. sudo checks the password first, so the password was right."""
CHECK_LOCK = "See that the account is not locked (faillock --user), then run the command again with the right password."
CALL = "\n\nimport sys\n\nsys.exit(main(sys.argv[1], sys.argv[2:]))\n"
# The exit status of sudo or doas itself is 1. A command that ended with another status did run, and is not run again.
BECOME = (
    'set -- /bin/sh -c {script}; [ "$(id -u)" = 0 ] && exec "$@"; '
    'tell() {{ echo; printf %s "$*"; echo; }}; say() {{ tell "$@"; exit 0; }}; '
    'command -v {method} >/dev/null 2>&1 || say fleet-missing become-missing {method} "$(id -un)"; '
    "{tried}"
    'tell fleet-wants-root "$(id -un)"; read -r go || exit 1; '
    "{find_python}"
    'exec "$p" -I -S -B -c "exec(eval(open(0, \'rb\', 0, closefd=False).readline()))" {method} "$@"'
)
TRY = 'LC_ALL=C {method} -n -- "$@"; s=$?; [ $s = 1 ] || exit $s; '

_ASKING: set[str] = set()
"""The accounts that became root with a password or on a terminal in this process."""


def forget_asking() -> None:
    """Every account is tried without a password first again (tests)."""
    _ASKING.clear()


class Refusal(NamedTuple):
    """Why a login does not become root. The braces in the texts stand for the method, the user, sudo's reason and the rule."""

    reason: str
    message: str
    remedy: str


REFUSALS = {
    "missing": Refusal(
        "sudo_missing",
        "The login is {user}, ansible_become is set, and the host has no {method}.",
        "Install {method} there, or log in as root (ansible_user: root).",
    ),
    "wrong": Refusal(
        "become_password_wrong",
        "{method} refused the password that was given for {user}. fleet does not send it to this host again in this run.",
        CHECK_LOCK,
    ),
    "unasked": Refusal(
        "become_denied",
        "{method} does not let {user} become root, and asked for no password.",
        "Allow it on the host: {allow}",
    ),
    "denied": Refusal(
        "become_denied",
        "{method} got the password and does not let {user} become root: it is wrong, or not enough.",
        "If the password is right, allow it on the host (with this rule, without a password): {allow}",
    ),
    "asks": Refusal(
        "become_asks",
        "{method} asks {user} for something other than a password, which fleet can't answer.",
        "Allow it without a question on the host: {allow}",
    ),
    "terminal": Refusal(
        "become_terminal",
        "{method} needs a terminal, and the host has none to give: {why}.",
        "See that /dev/pts is mounted there (mount | grep devpts); or allow {user} without a password: {allow}",
    ),
    "password": Refusal(
        "sudo_password",
        "{method} does not let {user} become root without a password.",
        "Give it with --ask-become-pass or --become-password-file; or allow it without a password on the host: {allow}",
    ),
}
"""By the host's word after `fleet-missing become-`; `password` is also for a word that this fleet does not know."""


class Become:
    """How one command becomes root on one host. It reports to the gate once whether the password was right."""

    def __init__(self, host: Host) -> None:
        # Two names of the inventory may be the same account.
        self._account = repr((host.user, *host.machine))
        self._name = host.name
        self._method = host.become_method
        self._is_on = host.become
        self._user = ""
        self._has_answered = False
        self._gate: PasswordGate | None = None

    def wrapped(self, script: str, find_python: str) -> str:
        """The script, run as root where the inventory sets `ansible_become`; the same script elsewhere."""
        if not self._is_on:
            return script
        # sudo's messages are in English for fleet; the command has the host's own locale.
        quoted = shlex.quote("unset LC_ALL; " + script)
        tried = "" if self._account in _ASKING else TRY.format(method=self._method)
        return BECOME.format(script=quoted, method=self._method, tried=tried, find_python=find_python)

    def is_wanted(self, line: bytes) -> bool:
        """Whether the host waits for `answer`. Without `ansible_become` no host is given a password, whatever it says."""
        return self._is_on and line.startswith(WANTS_ROOT)

    def answer(self, line: bytes, proceed: Callable[[], object]) -> bytes | None:
        """What to send to a host that waits: the script for a terminal, and the password or an empty line.

        `None` when the host was answered before. Waits until the password may be given; `proceed` is called meanwhile.
        Raises `HostRefused` when it may not, and what `proceed` raises.
        """
        if self._has_answered:
            return None
        self._has_answered = True
        self._user = safe(line[len(WANTS_ROOT) :].decode("utf-8", "replace")).strip()
        return b"go\n" + _terminal_script() + self._password(proceed) + b"\n"

    def _password(self, proceed: Callable[[], object]) -> bytes:
        secret = SECRETS.get(SecretKind.BECOME)
        if secret is None:
            if self._method == "doas":
                raise not_become("password", self._method, self._user)
            return b""
        gate = SECRETS.gate(SecretKind.BECOME, self._user)
        try:
            gate.enter(self._account, proceed)
        except PasswordWithheld as error:
            raise _not_given(self._method, error.refused_by) from None
        self._gate = gate
        return secret.encode("utf-8", "surrogateescape")

    def observe(self, line: bytes, message: Callable[[], str]) -> None:
        """Learns from a line before the begin whether the password was right. `message` gives sudo's own words."""
        if not self._has_answered:
            return
        if line.startswith(WRONG):
            self.report(False)
        elif line.startswith(DENIED) and not line.rstrip().endswith(become_root.UNASKED.encode()):
            self.report(NO_RULE.search(message()) is not None)
        elif line.startswith(BECOME_WORDS):
            self.report(None)
        elif line == BEGIN or line.startswith(MISSING):
            _ASKING.add(self._account)
            self.report(True)

    def report(self, taken: bool | None) -> None:
        """The password was accepted or refused; `None` when that is not known. Only the first call counts."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.report(self._account, self._name, taken)


def refusal_of(words: str, message: str) -> HostRefused:
    """Why the login did not become root, by the host's words after `fleet-missing become-`, with sudo's own words."""
    what, method, user, why = (words.strip().split(maxsplit=3) + [""] * 4)[:4]
    refusal = not_become(what, method, user, why)
    if not message:
        return refusal
    return HostRefused(refusal.reason, f"{refusal.message} Its message: {_without_script(message)}.", refusal.remedy)


def not_become(what: str, method: str, user: str, why: str = "") -> HostRefused:
    """Why the login did not become root, and the line that would let it."""
    unasked = what == "denied" and why == become_root.UNASKED
    refusal = REFUSALS.get("unasked" if unasked else what, REFUSALS["password"])
    facts = {"method": method, "user": user, "why": why or "no reason was given", "allow": root_line(method, user)}
    return HostRefused(refusal.reason, refusal.message.format(**facts), refusal.remedy.format(**facts))


def _not_given(method: str, refused_by: tuple[str, ...]) -> HostRefused:
    if not refused_by:
        refused = f"The password for {method} was refused on this host before in this run, and is not sent again."
        return HostRefused("become_password_wrong", refused, CHECK_LOCK)
    return HostRefused(
        "become_password_wrong",
        f"The password for {method} was rejected by {' and '.join(refused_by)} and accepted by no host. fleet does not send "
        "it to this one: a directory behind all of them would lock the account.",
        f"{CHECK_LOCK} If only those hosts have another password, leave them out with --limit.",
    )


@cache
def _terminal_script() -> bytes:
    """`become_root.py` as one line, which the host's Python evaluates."""
    source = Path(become_root.__file__).read_text(encoding="utf-8")
    return repr(source + CALL).encode("utf-8") + b"\n"


def _without_script(message: str) -> str:
    """sudo's message without the command, which it repeats whole."""
    before, found, rest = message.partition("/bin/sh -c ")
    _, ends, after = rest.rpartition("' as ")
    return f"{before}/bin/sh -c …{ends}{after}" if found and ends else message
