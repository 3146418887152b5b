"""The password for sudo is asked for once, or read from the operator's own file, and is not shown anywhere."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import Refused
from fleet.host import Host
from fleet.ssh.auth.prompts import prepare
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.task import Connecting
from tests.support.shell import Shell

SECRET = "hunter two"
ORDINARY = Host(name="web-01", address="web-01", user="deploy", become=True)
ROOT = Host(name="web-02", address="web-02", user="root", become=True)
FREE = Host(name="web-03", address="web-03", user="deploy")
ASKING = Connecting(ask_become_pass=True)


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    SECRETS.forget()
    yield
    SECRETS.forget()


class Person:
    """An operator at the terminal. Keeps the prompts."""

    def __init__(self, answer: str = SECRET) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def __call__(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self._answer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\nand a note\n")
    path.chmod(0o600)
    return path


def test_the_password_is_asked_for_once_for_all_hosts_and_runs() -> None:
    person = Person()
    hosts = (ORDINARY, replace(ORDINARY, name="bsd", become_method="doas"), replace(ORDINARY, name="web-05"))

    prepare(hosts, ASKING, person)
    prepare(hosts, ASKING, person)

    assert person.asked == ["Password of doas for deploy, sudo for deploy: "]
    assert SECRETS.get(SecretKind.BECOME) == SECRET


def test_no_password_is_asked_for_when_no_host_needs_it() -> None:
    person = Person()

    prepare((ROOT, FREE), ASKING, person)
    prepare((ORDINARY,), Connecting(), person)

    assert person.asked == []
    assert SECRETS.get(SecretKind.BECOME) is None


def test_the_first_line_of_the_file_is_taken(file: Path) -> None:
    prepare((ORDINARY,), Connecting(become_password_file=str(file)), Person("not asked"))

    assert SECRETS.get(SecretKind.BECOME) == SECRET


def test_the_file_may_be_a_pipe() -> None:
    read, write = os.pipe()
    os.write(write, f"{SECRET}\n".encode())
    os.close(write)

    prepare((ORDINARY,), Connecting(become_password_file=f"/dev/fd/{read}"), Person())

    os.close(read)
    assert SECRETS.get(SecretKind.BECOME) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_can_read_or_change_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)

    with pytest.raises(Refused) as caught:
        prepare((ORDINARY,), Connecting(become_password_file=str(file)), Person())

    assert f"chmod 600 {file}" in caught.value.remedy
    assert SECRETS.get(SecretKind.BECOME) is None


def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 61_234, 61_234)

    with pytest.raises(Refused, match="can be read or changed by others"):
        prepare((ORDINARY,), Connecting(become_password_file=str(file)), Person())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"{tmp_path}/no can't be read: No such file"):
        prepare((ORDINARY,), Connecting(become_password_file=f"{tmp_path}/no"), Person())


@pytest.mark.parametrize("given", ["", "a\x03b", "tab\there", "x" * 5000], ids=["empty", "^C", "tab", "long"])
def test_a_password_that_cannot_be_typed_is_refused_without_being_shown(given: str) -> None:
    with pytest.raises(Refused) as caught:
        prepare((ORDINARY,), ASKING, Person(given))

    assert not given or given not in str(caught.value)
    assert SECRETS.get(SecretKind.BECOME) is None


def test_the_command_line_and_the_environment_say_where_it_comes_from(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[tuple[bool, str | None]] = []

    def note(hosts: Sequence[Host], connecting: Connecting) -> tuple[str, ...]:
        given.append((connecting.ask_become_pass, connecting.become_password_file))
        return ()

    shell.environment = replace(shell.environment, prepare=note)
    monkeypatch.chdir(tmp_path)

    shell("status")
    shell("status", "-K")
    shell("status", "--become-password-file", "password")
    monkeypatch.setenv("FLEET_ASK_BECOME_PASS", "1")
    monkeypatch.setenv("FLEET_BECOME_PASSWORD_FILE", "/dev/fd/3")
    shell("status")

    assert given == [(False, None), (True, None), (False, f"{tmp_path}/password"), (True, "/dev/fd/3")]
