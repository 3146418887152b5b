"""Real-world hosts: whatever the login shell, home, Python or clock, the step script and a release arrive.

Each test has a real sshd, and the real step script stages a real upload. That sshd sees changed files (/etc/passwd,
/tmp, /usr/bin) in a mount namespace of its own.
"""

import ctypes
import hashlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.events import EventType
from fleet.host import Host
from fleet.inventory import load
from fleet.onhost.protocol import Ask, Goal, Outcome, Rest, Step
from fleet.ssh.visit import visit
from fleet.task import HostOutcome
from tests.support.onhost.pythons import Python, found_pythons
from tests.support.ssh.server import sshd
from tests.support.ssh.stubs import Heard, a_task

RELEASE = os.urandom(1 << 16) + bytes(1 << 16)
SHA256 = hashlib.sha256(RELEASE).hexdigest()
NEW_NETWORK = 0x40000000  # CLONE_NEWNET (sched.h)
NOT_STAGED = ("release_missing", "wrong_bytes", "upload_failed", "bundle_failed", "psutil_missing")


def in_its_own_mounts(*commands: str) -> tuple[str, ...]:
    """Runs these mount commands and then the command that follows, in a mount namespace of its own."""
    return ("unshare", "--mount", "/bin/sh", "-ec", "; ".join((*commands, 'exec "$@"')), "sh")


def root_is(folder: Path, shell: str = "/bin/sh", home: str = "/root") -> str:
    """The command after which root has this login shell and this home."""
    lines = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
    passwd = folder / "passwd"
    passwd.write_text("\n".join([f"root:x:0:0:root:{home}:{shell}", *lines]) + "\n")
    return f"mount --bind {shlex.quote(str(passwd))} /etc/passwd"


def staged(host: Host, heard: Heard | None = None) -> HostOutcome:
    """The outcome of a visit that uploads the bundle and the release. Asserts that the release arrived."""
    state_dir = Path(host.layout.state_dir)
    release = state_dir.with_name("nginx")
    release.write_bytes(RELEASE)
    task = a_task(host, Ask.STAGE, release=release)
    request = task.request._replace(
        goal=Goal(SHA256, Rest.HELD),
        allowed=(Step.STAGE,),
        release_bytes=len(RELEASE),
        layout=host.layout._replace(pid_file=str(state_dir.with_name("no-nginx.pid"))),
    )

    outcome = visit(replace(task, request=request), heard or Heard())

    assert outcome.report is not None, outcome
    assert outcome.reason not in NOT_STAGED, outcome
    assert (state_dir / "releases" / SHA256 / "nginx").read_bytes() == RELEASE
    return outcome


@contextmanager
def a_host(folder: Path, *settings: str, within: tuple[str, ...] = ()) -> Iterator[Host]:
    with sshd(folder, *settings, within=within) as running:
        yield running.host


# The login

GREETING = "".join(f"echo 'line {number} of the greeting'\n" for number in range(1000))


@pytest.mark.parametrize(
    ("shell", "file", "text"),
    [
        ("/bin/dash", ".profile", ""),
        ("/bin/bash", ".bashrc", GREETING + "printf 'no newline at the end'\n"),
        ("/bin/tcsh", ".tcshrc", 'echo "hello from csh"\nset histchars="!^"\n'),
        ("/usr/bin/fish", ".config/fish/config.fish", 'echo "hello from fish"\n'),
    ],
    ids=["dash", "noisy bash", "csh", "fish"],
)
def test_every_login_shell_works(tmp_path: Path, shell: str, file: str, text: str) -> None:
    home = tmp_path / "home"
    (home / file).parent.mkdir(parents=True)
    (home / file).write_text(text)

    with a_host(tmp_path, within=in_its_own_mounts(root_is(tmp_path, shell, str(home)))) as host:
        staged(host)


def test_a_greeting_that_breaks_sftp_and_scp_does_not_break_the_exec_way(tmp_path: Path) -> None:
    """The login shell starts an sftp-server that is a program, after its .bashrc."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text(GREETING)
    heard = Heard()

    with a_host(
        tmp_path,
        "Subsystem sftp /usr/lib/openssh/sftp-server",
        within=in_its_own_mounts(root_is(tmp_path, "/bin/bash", str(home))),
    ) as host:
        staged(host, heard)

    assert [event.data["transfer"] for event in heard.events if event.type is EventType.NOTE] == ["exec"]


@pytest.mark.parametrize("home", ["/no/such/home", "/proc"], ids=["not there", "not writable"])
def test_the_home_is_not_needed(tmp_path: Path, home: str) -> None:
    with a_host(tmp_path, within=in_its_own_mounts(root_is(tmp_path, home=home))) as host:
        staged(host)


# The file systems


def test_tmp_is_not_needed(tmp_path: Path) -> None:
    """/tmp is read-only and noexec; the state folder is on another file system."""
    own = tmp_path / "own"
    own.mkdir()
    mounts = ("mount --bind /tmp /tmp", f"mount --rbind {shlex.quote(str(own))} {shlex.quote(str(own))}")

    with a_host(tmp_path, within=in_its_own_mounts(*mounts, "mount -o remount,bind,noexec,ro /tmp")) as host:
        staged(replace(host, layout=host.layout._replace(state_dir=str(own / "state"))))


@pytest.mark.parametrize("umask", ["000", "077"])
def test_no_umask_opens_a_file_to_others(tmp_path: Path, umask: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text(f"umask {umask}\n")

    with a_host(
        tmp_path,
        f"Subsystem sftp internal-sftp -u 0{umask}",
        within=in_its_own_mounts(root_is(tmp_path, "/bin/bash", str(home))),
    ) as host:
        staged(host)

    state_dir = Path(host.layout.state_dir)
    kept = [state_dir, *state_dir.rglob("*")]
    assert [str(path) for path in kept if path.stat().st_mode & 0o022] == []
    assert state_dir.stat().st_mode & 0o777 == 0o700


# Python


def test_a_python_without_a_part_of_its_library_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """As with Debian's python3-minimal, or a Python that was built without OpenSSL's headers."""
    python = found_pythons()[0].executable
    asked = subprocess.run(
        [python, "-c", "import _ssl; print(_ssl.__file__)"], capture_output=True, text=True, check=True
    )

    with a_host(tmp_path, within=in_its_own_mounts(f"mount --bind /dev/null {asked.stdout.strip()}")) as host:
        outcome = visit(a_task(replace(host, python=python)), Heard())

    assert (outcome.outcome, outcome.reason) == (Outcome.REFUSED, "python_incomplete")
    assert f"{python}: No module named '_ssl'" in outcome.message
    assert "not only python3-minimal" in outcome.remedy
    assert not (tmp_path / "state").exists()


def test_the_platform_python_is_enough(tmp_path: Path) -> None:
    """As on a minimal RHEL 8."""
    python = next(python for python in found_pythons() if not python.executable.startswith("/usr/bin/"))
    hidden = [path for path in Path("/usr/bin").glob("python3*") if not path.is_symlink()]
    libexec = tmp_path / "libexec"
    libexec.mkdir()
    (libexec / "platform-python").symlink_to(python.executable)
    mounts = [f"mount --bind /dev/null {path}" for path in hidden]
    mounts.append("mkdir -p /usr/libexec")
    mounts.append(f"mount --bind {shlex.quote(str(libexec))} /usr/libexec")

    with a_host(tmp_path, "SetEnv PATH=/usr/bin:/bin", within=in_its_own_mounts(*mounts)) as host:
        staged(host)


@pytest.mark.parametrize("python", found_pythons()[:1], ids=lambda python: python.version)
def test_the_oldest_supported_python_works(fresh: Host, python: Python) -> None:
    staged(replace(fresh, python=python.executable))


@pytest.mark.parametrize(
    ("python", "locale"),
    [(found_pythons()[0], "C"), (found_pythons()[-1], "C"), (found_pythons()[-1], "no-such-locale")],
    ids=["oldest-C", "newest-C", "newest-no such locale"],
)
def test_the_host_s_locale_changes_nothing(tmp_path: Path, python: Python, locale: str) -> None:
    with a_host(tmp_path, f"SetEnv LANG={locale} LC_ALL={locale} LC_CTYPE={locale} LANGUAGE=tr") as host:
        layout = host.layout._replace(state_dir=f"{tmp_path}/Zustände")
        staged(replace(host, python=python.executable, layout=layout))


def test_python_ignores_the_host_s_environment(tmp_path: Path) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("json.py", "psutil.py", "usercustomize.py", "startup.py", "zipimport.py"):
        (evil / name).write_text("raise SystemExit('the wrong module')\n")
    variables = (
        f"PYTHONPATH={evil} PYTHONSTARTUP={evil}/startup.py PYTHONHOME={evil} PYTHONINSPECT=1 PYTHONWARNINGS=error"
    )

    with a_host(tmp_path, f"SetEnv {variables} PYTHONDEBUG=1 PYTHONUNBUFFERED=1 PYTHONIOENCODING=utf-16") as host:
        staged(host)


# Time

CLOCK = """#!/bin/sh
# Python on a host whose clock is wrong, for all that fleet runs in it by -c.
exec {python} "$1" "$2" "$3" "$4" "import time; right = time.time; time.time = lambda: right() + {wrong_s}; $5" "$6"
"""


@pytest.mark.parametrize("years", [-40, 30])
def test_a_clock_that_is_wrong_for_years_does_no_harm(fresh: Host, tmp_path: Path, years: int) -> None:
    """fleet does not compare it with the laptop's clock, and only reports it."""
    wrong = tmp_path / "python3"
    wrong.write_text(CLOCK.format(python=found_pythons()[-1].executable, wrong_s=years * 365 * 86400))
    wrong.chmod(0o755)
    host = replace(fresh, python=str(wrong))

    staged(host)


# Names and addresses


def test_a_name_may_be_as_long_as_dns_allows(fresh: Host, tmp_path: Path) -> None:
    name = ".".join(["web-" + "x" * 59] * 4)[:253]
    inventory = tmp_path / "hosts.yaml"
    inventory.write_text(f"all:\n  hosts:\n    {name}: {{ansible_host: 127.0.0.1, ansible_port: {fresh.port}}}\n")
    (listed,) = load((inventory,)).select(())
    heard = Heard()

    outcome = staged(replace(fresh, name=listed.name, port=listed.port, address=listed.address), heard)

    assert len(name) == 253
    assert outcome.host == name
    assert {event.host for event in heard.events} == {name}


def test_an_ipv6_address_is_known_by_its_name_in_brackets(tmp_path: Path) -> None:
    with sshd(tmp_path, address="::1") as running:
        staged(running.host)

        assert running.known_hosts.read_text().startswith(f"[::1]:{running.port} ")


def test_a_link_local_address_needs_its_zone(tmp_path: Path) -> None:
    """In a thread with its own network namespace, where the loopback interface has such an address."""

    def there() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK) == 0
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "addr", "add", "fe80::1/64", "dev", "lo", "nodad"], check=True)
        with sshd(tmp_path, address="fe80::1%lo") as running:
            staged(running.host)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(there).result()


def test_a_release_that_is_whole_on_the_host_is_never_sent_again(fresh: Host) -> None:
    first, second = Heard(), Heard()

    staged(fresh, first)
    staged(fresh, second)

    assert [event.data["transfer"] for event in first.events if "transfer" in event.data] == ["exec"]
    assert [event for event in second.events if "transfer" in event.data] == []


def test_two_instances_of_one_host_are_visited_at_the_same_time(fresh: Host) -> None:
    """They share the state folder, and with it the release."""
    hosts = [
        replace(fresh, name=name, layout=fresh.layout._replace(pid_file=f"/run/{name}.pid"))
        for name in ("shop", "blog", "news")
    ]

    with ThreadPoolExecutor(3) as threads:
        outcomes = list(threads.map(staged, hosts))

    assert [outcome.host for outcome in outcomes] == ["shop", "blog", "news"]
    folder = Path(fresh.layout.state_dir) / "releases" / SHA256
    assert [path.name for path in folder.iterdir()] == ["nginx"]
