"""The command line that a host's login shell is given, and the host's answers before the command itself speaks.

Any login shell only has to `exec /bin/sh -c` one quoted word. The word holds no newline, `!` or backslash, which csh and
fish read differently even in quotes (`tests/ssh/test_hosts.py` runs them). Everything else travels on stdin.
"""

import re
import shlex
from dataclasses import dataclass

from fleet.onhost.bootstrap.receive import IDLE_S
from fleet.onhost.text import safe
from fleet.ssh.link_errors import HostRefused

BEGIN = b"fleet-begin"
MISSING = b"fleet-missing "
BECOME_WORDS = b"fleet-missing become-"
CANDIDATES = (
    "python3 /usr/libexec/platform-python /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9] /usr/local/bin/python3"
)
LARGEST_64_BIT = str(2**63 - 1)
SPECIAL = re.compile(r"[\x00-\x1f\x7f!\\]")

# `echo` of some shells reads the backslash in a Windows domain's user name as an escape; `printf %s` does not.
# The command substitutions run with stdin closed: stdin belongs to the step script.
# Without a UTF-8 locale, Python 3.6 would encode a path differently.
# Root owns /proc, which spares root the start of `id`; in some containers nobody owns it, and `id` is asked.
AS_ROOT = (
    'LC_ALL=C.UTF-8; export LC_ALL; say() { echo; printf %s "$*"; echo; exit 0; }; '
    '[ -O /proc ] || [ "$(id -u)" = 0 ] || say fleet-missing root "$(id -un)"; '
)
FIND_PYTHON = (
    "p=; o=; for c in {candidates}; do "
    'c=$(command -v "$c" 2>/dev/null) || continue; '
    'v=$("$c" -I -S -c "import sys; print(sys.version_info[0], sys.version_info[1])" </dev/null 2>/dev/null); '
    'case "$v" in "3 "[0-5]|[0-2]" "*|"") o="$o $c ($v)";; *) p=$c; break;; esac; done; '
    '[ -n "$p" ] || say fleet-missing python "$o"; '
)
# A Python that is new enough says so on descriptor 3, and goes on; the shell waits for its end. Another one is passed over
# in silence. If none says so, each is asked for its version; one that is new enough then does not inherit descriptors.
RUN = (
    "exec 4>&1 5>&2; for c in {candidates}; do "
    'command -v "$c" >/dev/null 2>&1 || continue; '
    'b=$("$c" -I -S -B -c "{first} $t" "$f" 3>&1 1>&4 2>/dev/null 4>&-); s=$?; [ -z "$b" ] || exit $s; done; '
    '{find_python}exec "$p" -I -S -B -c "import os, sys, _signal; $t" "$f" 4>&- 5>&-'
)
FIRST = (
    "import sys; sys.version_info < (3, 6) and sys.exit(1); "
    "import os, _signal; os.dup2(5, 2); os.close(5); os.write(3, b'1'); os.close(3);"
)
# The first line of stdin is a Python text that checks the folders before anything in them is run (bootstrap/safe_folders.py).
# Without such a line the command ends after as many seconds as `receive` waits for bytes.
READ = f"_signal.alarm({IDLE_S}); print(); print('fleet-begin', flush=True); exec(eval(sys.stdin.buffer.readline()))"
# Debian's python3-minimal, and a Python that was built without OpenSSL's or zlib's headers, lack a part of the library.
# A Python for musl needs ctypes (fleet.onhost.system.xattr).
DESCRIBE = (
    "print(); sys.excepthook = lambda kind, why, trace: print('fleet-missing library %s: %s' % (sys.executable, why)); "
    "import http.client, json, os, platform, shutil, ssl, zipfile, zlib; hasattr(os, 'listxattr') or __import__('ctypes'); "
    "print('fleet-missing bundle', platform.machine(), sys.maxsize, *platform.libc_ver())"
)
SPEAK = "echo; echo fleet-begin; "
ROOT_RULES = {
    "sudo": ("{user} ALL=(root) NOPASSWD: /bin/sh", "> /etc/sudoers.d/zz-fleet"),
    "doas": ("permit nopass {user} as root cmd /bin/sh", ">> /etc/doas.conf"),
}
"""The rule that lets a login become root, and where it goes. sudo's last rule wins, so its file's name is a late one."""


@dataclass(frozen=True, slots=True)
class Platform:
    """The machine and the libc of a host's Python. `tag` names the bundle for them."""

    machine: str
    libc: str

    @classmethod
    def of(cls, machine: str, libc: str) -> "Platform":
        """From `platform.machine` and `platform.libc_ver`. On musl an old Python reports no libc (Alpine), or `libc` where
        the library is libc.so (musl's own build, Debian's)."""
        return cls(machine, "musl" if libc in ("", "libc") else libc)

    @property
    def tag(self) -> str:
        return f"{self.machine}-{self.libc}"


def login_line(script: str) -> str:
    """What the login shell is given to run this script in a POSIX shell."""
    return "exec /bin/sh -c " + shlex.quote(script)


def run_script(keys: tuple[str, ...], state_dir: str, python: str | None) -> str:
    """Starts the first of these bundles that the host has, by the Python text on the first line of stdin."""
    folders = shlex.quote(f"{state_dir}/bundles")
    found = f'f={folders}/$k/fleet.pyz; [ -O "$f" ] && t="{READ}" && break'
    return AS_ROOT + f't="{DESCRIBE}"; for k in {" ".join(keys)}; do {found}; done; ' + _run(python)


def text_script(python: str | None) -> str:
    """Executes the Python text on the first line of stdin, as root."""
    return AS_ROOT + f'f=; t="{READ}"; ' + _run(python)


def _run(python: str | None) -> str:
    """Shell that runs the Python program `$t`, with `$f` as its argument, in the first Python that can."""
    return RUN.format(candidates=_candidates(python), first=FIRST, find_python=find_python(python))


def shell_script(script: str) -> str:
    """Runs this POSIX shell script after the begin. What is sent to it is sent after the begin, too."""
    return SPEAK + script


def root_line(method: str, user: str) -> str:
    """The shell line by which root lets this login become root on the host."""
    rule, where = ROOT_RULES.get(method, ROOT_RULES["sudo"])
    if "\\" not in user:
        return f"echo '{rule.format(user=user or 'USER')}' {where}"
    # sudoers and doas.conf read a backslash as an escape, and `echo` may, too.
    escaped = user.replace("\\", "\\\\")
    return f"printf '%s\\n' '{rule.format(user=escaped)}' {where}"


def missing_platform(line: bytes) -> Platform | None:
    """The platform of a host that has no bundle yet; `None` for any other line."""
    words = safe(line.decode("utf-8", "replace")).split()
    if words[:2] != ["fleet-missing", "bundle"]:
        return None
    machine, largest, libc = (*words[2:5], "", "", "")[:3]
    bits = "" if largest == LARGEST_64_BIT else "-32bit"
    return Platform.of(machine + bits, libc)


def find_python(python: str | None) -> str:
    """Shell that sets `$p` to a Python that is new enough, or to `python` where the inventory names one."""
    return FIND_PYTHON.format(candidates=_candidates(python))


def _candidates(python: str | None) -> str:
    return quoted(python) if python else CANDIDATES


def quoted(path: str) -> str:
    """The path as one word for sh. Raises `HostRefused` for characters that some login shell changes."""
    if SPECIAL.search(path):
        raise HostRefused(
            "path_refused",
            f"The path {path!r} holds a control character, an exclamation mark or a backslash, which some login shells change.",
            "Choose another path in the inventory (fleet_state_dir, ansible_python_interpreter).",
        )
    return shlex.quote(path)


def refuse_missing(line: bytes) -> None:
    """Raises `HostRefused` for a line in which the host names what it lacks; returns for any other line."""
    if not line.startswith(MISSING):
        return
    lacking = safe(line[len(MISSING) :].decode("utf-8", "replace")).strip()
    what, _, rest = (part.strip() for part in lacking.partition(" "))
    if what == "root":
        raise HostRefused(
            "not_root",
            f"The login is {rest or 'not root'}, and only root may signal nginx and replace its binary.",
            f"Set ansible_become: true for the host and allow it there: {root_line('sudo', rest)}. Or log in as root.",
        )
    if what == "python" and not rest:
        raise HostRefused(
            "python_missing",
            "The host has no Python 3 in the places that fleet searches (python3, platform-python, /usr/bin/python3.*).",
            "Install it (Debian, RHEL, Alpine: package python3), or set ansible_python_interpreter.",
        )
    if what == "python":
        raise HostRefused(
            "python_old",
            f"The host's Python is too old or does not run: {rest}. The step script needs 3.6 or newer.",
            "Install a newer Python 3, or set ansible_python_interpreter in the inventory.",
        )
    if what == "library":
        raise HostRefused(
            "python_incomplete",
            f"The host's Python lacks a part of its standard library: {rest}.",
            "Install all of it (Debian, Ubuntu: python3, not only python3-minimal), or set ansible_python_interpreter.",
        )
