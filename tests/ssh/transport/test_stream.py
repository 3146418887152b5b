"""A ProxyCommand runs as ssh runs it: by the operator's shell, and an error names the shell that can't do it."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.ssh.link_errors import LinkError
from fleet.ssh.remote.command import Command
from fleet.ssh.transport.connection import Link
from fleet.task import PLAIN
from tests.support.ssh.server import Sshd
from tests.support.ssh.stubs import QUICK

LOGIN = "ssh -F {config} -W %h:%p gate"


@pytest.fixture
def config(server: Sshd, tmp_path: Path) -> Path:
    """An ssh_config with the host `last` and, on the same sshd, the bastion `gate`; a ProxyCommand is still to come."""
    path = tmp_path / "config"
    path.write_text(
        f"Host last gate\n  HostName 127.0.0.1\n  Port {server.port}\n  User root\n  BatchMode yes\n"
        f"  IdentityFile {server.host.key_files[0]}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {server.known_hosts}\n"
    )
    return path


def behind(config: Path, command: str) -> Host:
    """The host `last` behind this ProxyCommand, `{config}` in it being the ssh_config."""
    config.write_text(f"Host last\n  ProxyCommand {command.format(config=config)}\n{config.read_text()}")
    return Host(name="web-01", address="last", ssh_config=str(config))


@pytest.fixture
def links() -> Iterator[list[Link]]:
    found: list[Link] = []
    yield found
    for link in found:
        link.close()


def says(host: Host, links: list[Link]) -> bytes:
    link = Link(host, QUICK, PLAIN)
    links.append(link)
    link.open()
    (found,) = Command(link, "exec echo in").lines(lambda: QUICK.silence_s)
    return found


def rejection(host: Host) -> LinkError:
    link = Link(host, replace(QUICK, banner_s=5.0), PLAIN)
    with pytest.raises(LinkError) as caught:
        link.open()
    link.close()
    return caught.value


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        ("/bin/bash", LOGIN + " 2> >(cat >/dev/null)"),
        ("/bin/bash", "{{ssh,-F,{config},-W,%h:%p}} gate"),
        ("/bin/bash", "ssh -F {config} -W %h:%p $'ga\\x74e'"),
        ("/bin/bash", 'ssh -F {config} -W %h:%p "${{BASH:0:0}}gate"'),
        ("/usr/bin/fish", "ssh -F {config} -W %h:%p (string lower GATE)"),
        ("/bin/tcsh", "ssh -F {config} -W %h:%p {{gate}}"),
        ("bash", LOGIN + " 2> >(cat >/dev/null)"),  # looked up in PATH, as Debian's ssh does
        ("/bin/dash", LOGIN + " 2>/dev/null"),
        ("", LOGIN + " 2>/dev/null"),
        (None, LOGIN + " 2>/dev/null"),
    ],
)
def test_a_proxy_command_runs_by_the_operator_s_shell(
    config: Path, links: list[Link], monkeypatch: pytest.MonkeyPatch, shell: str | None, command: str
) -> None:
    """Each command means something in that shell only; ssh itself connects by it."""
    host = behind(config, command)
    monkeypatch.delenv("SHELL", raising=False)
    if shell is not None:
        monkeypatch.setenv("SHELL", shell)

    assert says(host, links) == b"in"
    assert (
        subprocess.run(["ssh", "-F", config, "last", "echo", "in"], capture_output=True, check=False).stdout == b"in\n"
    )


def test_the_home_of_a_proxy_command_is_the_shell_s(
    config: Path, links: list[Link], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "proxy"
    program.write_text(f'#!/bin/sh\nexec ssh -F {config} -W "$1:$2" gate\n')
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert says(behind(config, "~/proxy %h %p"), links) == b"in"


@pytest.mark.parametrize(
    ("shell", "why"),
    [
        ("/nowhere/bash", "No such file or directory"),
        ("no-shell", "No such file or directory"),
        ("/etc/passwd", "Permission denied"),
        ("/etc", "Permission denied"),
        ("/etc/passwd/sh", "Not a directory"),
    ],
)
def test_a_shell_that_can_t_be_started_is_named(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, why: str
) -> None:
    """ssh says the same."""
    host = behind(config, LOGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELL", shell)

    failure = rejection(host)

    assert failure.reason == "proxy_failed"
    assert failure.message == f"The ProxyCommand can't be run: your shell, {shell} ($SHELL), can't be started: {why}."
    assert failure.remedy == "Name a shell that exists, by its whole path: `export SHELL=/bin/sh`"
    ssh = subprocess.run(["ssh", "-F", config, "last", "echo", "in"], capture_output=True, text=True, check=False)
    assert f"{shell}: {why}" in ssh.stderr


@pytest.mark.parametrize("shell", ["/bin/false", "/usr/sbin/nologin"])
def test_the_shell_of_a_service_account_is_named(config: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    host = behind(config, LOGIN)
    monkeypatch.setenv("SHELL", shell)

    failure = rejection(host)

    assert failure.reason == "proxy_failed"
    assert f"{shell} ($SHELL), runs no command" in failure.remedy
    assert "`export SHELL=/bin/sh`" in failure.remedy


def test_the_remedy_is_what_fleet_ran(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed into a shell, it gives the same error."""
    host = behind(config, "sh -c 'echo \"no way\" >&2; exit 3' %h")
    monkeypatch.setenv("SHELL", "/bin/bash")

    failure = rejection(host)

    assert failure.message == "The ProxyCommand ended with status 3: no way."
    typed = failure.remedy.partition("`")[2].rstrip("`")
    assert typed.startswith("/bin/bash -c ")
    ran = subprocess.run(["/bin/sh", "-c", typed], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (3, "no way\n")
