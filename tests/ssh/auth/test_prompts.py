"""The operator is asked for each secret once, before the run, and only at a terminal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.errors import Refused
from fleet.host import Host
from fleet.ssh.auth.prompts import MAX_TRIES, hops_of, prepare, prepare_scan
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from fleet.ssh.openssh_config import NamedBy
from fleet.task import PLAIN, Connecting
from tests.support.ssh.agents import ssh_add, ssh_agent
from tests.support.ssh.server import make_key

RIGHT = "öpen sesame"


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    yield
    SECRETS.forget()


class Person:
    """Gives these answers, one after the other."""

    def __init__(self, *answers: str) -> None:
        self.prompts: list[str] = []
        self._answers = list(answers)

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return self._answers.pop(0)


def nobody(prompt: str) -> str:
    raise Refused(f"there is no terminal to ask for this on: {prompt}")


def hosts(count: int = 1, **values: object) -> list[Host]:
    return [Host(name=f"web-{number}", address=f"192.0.2.{number}", **values) for number in range(count)]  # type: ignore[arg-type]


def config(tmp_path: Path, *lines: str) -> Connecting:
    (tmp_path / "config").write_text("".join(f"{line}\n" for line in lines))
    return replace(PLAIN, ssh_config=str(tmp_path / "config"))


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    return make_key(tmp_path / "locked", passphrase=RIGHT)


def test_a_passphrase_is_asked_once_for_all_hosts_and_runs(locked: Path) -> None:
    person = Person(RIGHT)

    for _ in range(2):
        prepare(hosts(20, key_files=(str(locked),)), Connecting(ssh_config="none"), person)

    assert person.prompts == [f"Passphrase of {locked}: "]
    assert SECRETS.get(SecretKind.PASSPHRASE, str(locked)) == RIGHT


def test_a_key_of_a_bastion_is_asked_for_too(tmp_path: Path, locked: Path) -> None:
    person = Person(RIGHT)
    lines = ("Host gate", f"IdentityFile {locked}", "Host *", "IdentityFile none", "Match host 192.0.2.*")

    prepare(hosts(2), config(tmp_path, *lines, "ProxyJump outer,gate"), person)

    assert len(person.prompts) == 1


def test_a_scan_asks_for_passphrases_of_bastion_keys_only(tmp_path: Path, locked: Path) -> None:
    other = make_key(tmp_path / "other", passphrase=RIGHT)
    person = Person(RIGHT)
    lines = ("Host gate", f"IdentityFile {locked}", "Match host 192.0.2.*", "ProxyJump gate")
    connecting = replace(config(tmp_path, *lines), ask_password=True, ask_become_pass=True)

    prepare_scan(hosts(2, key_files=(str(other),), become=True), connecting, person)

    assert person.prompts == [f"Passphrase of {locked}: "]


def test_hops_are_the_hosts_and_their_bastions_each_once(tmp_path: Path) -> None:
    connecting = config(tmp_path, "Match host 192.0.2.*", "ProxyJump outer,gate")

    found = [hop.hostname for hop in hops_of(hosts(3), connecting)]

    assert sorted(found) == ["192.0.2.0", "192.0.2.1", "192.0.2.2", "gate", "outer"]


def test_a_wrong_passphrase_is_asked_again_and_given_up_in_the_end(locked: Path) -> None:
    person = Person("wrong", RIGHT)
    prepare(hosts(key_files=(str(locked),)), PLAIN, person)
    assert person.prompts[1].startswith("Wrong. ")
    assert SECRETS.get(SecretKind.PASSPHRASE, str(locked)) == RIGHT
    SECRETS.forget()

    person = Person(*["wrong"] * MAX_TRIES)
    for _ in range(2):
        prepare(hosts(key_files=(str(locked),)), PLAIN, person)
    assert len(person.prompts) == MAX_TRIES


def test_an_empty_answer_leaves_the_key_out_and_asks_for_the_next(tmp_path: Path, locked: Path) -> None:
    other = make_key(tmp_path / "other", passphrase=RIGHT)
    person = Person("", RIGHT)

    prepare(hosts(key_files=(str(locked), str(other))), PLAIN, person)

    assert len(person.prompts) == 2
    assert SECRETS.get(SecretKind.PASSPHRASE, str(other)) == RIGHT


def test_a_key_that_the_agent_holds_is_not_asked_for(tmp_path: Path, locked: Path) -> None:
    (tmp_path / "askpass").write_text(f"#!/bin/sh\necho '{RIGHT}'\n")
    (tmp_path / "askpass").chmod(0o700)
    with ssh_agent(tmp_path / "agent") as agent, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSH_ASKPASS", str(tmp_path / "askpass"))
        patch.setenv("SSH_ASKPASS_REQUIRE", "force")
        ssh_add(agent, locked)

        with_agent, without = Person(), Person("")
        prepare(hosts(), config(tmp_path, f"IdentityAgent {agent}", f"IdentityFile {locked}"), with_agent)
        prepare(hosts(), config(tmp_path, f"IdentityFile {locked}"), without)

    assert with_agent.prompts == []
    assert without.prompts == [f"Passphrase of {locked}: "]


def test_without_a_terminal_nothing_is_asked_and_nothing_fails(locked: Path) -> None:
    prepare(hosts(key_files=(str(locked),)), PLAIN, nobody)

    assert SECRETS.get(SecretKind.PASSPHRASE, str(locked)) is None


@pytest.fixture
def default(locked: Path, home: Path) -> Path:
    """The same key as one of OpenSSH's default files."""
    found = locked.rename(home / "id_ed25519")
    (hop,) = hops_of(hosts(), Connecting(ssh_config="none"))
    assert str(found) in hop.identity_files
    assert hop.named_by is NamedBy.OPENSSH
    return found


def test_a_key_of_openssh_s_own_list_is_asked_for_where_there_is_nothing_else(tmp_path: Path, default: Path) -> None:
    person = Person(RIGHT)

    prepare(hosts(), Connecting(ssh_config="none"), person)

    assert person.prompts == [f"Passphrase of {default}: "]


@pytest.mark.parametrize("other", ["agent", "file", "password"])
def test_a_key_of_openssh_s_own_list_is_not_asked_for_where_it_may_not_be_needed(
    tmp_path: Path, default: Path, other: str
) -> None:
    person = Person("secret")
    with ssh_agent(tmp_path / "agent") as agent:
        if other == "agent":
            ssh_add(agent, make_key(tmp_path / "other"))
        if other == "file":
            make_key(default.with_name("id_ecdsa"), "ecdsa")
        connecting = config(tmp_path, f"IdentityAgent {agent}")

        prepare(hosts(), replace(connecting, ask_password=other == "password"), person)

    assert [prompt for prompt in person.prompts if "Passphrase" in prompt] == []


def test_a_bastion_s_key_is_asked_for_though_the_hosts_have_a_password(tmp_path: Path, default: Path) -> None:
    """No bastion is given it."""
    person = Person(RIGHT, "secret")

    prepare(hosts(), replace(config(tmp_path, "Host 192.0.2.*", "ProxyJump gate"), ask_password=True), person)

    assert person.prompts == [f"Passphrase of {default}: ", "Password of the login: "]


def test_a_host_that_cannot_be_resolved_is_left_to_its_visit(tmp_path: Path) -> None:
    nonsense = config(tmp_path, "Nonsense yes")
    person = Person()

    assert hops_of(hosts(), nonsense) == ()
    assert prepare(hosts(), nonsense, person) == ()
    assert person.prompts == []


def test_a_password_is_asked_for_once_and_only_if_wanted() -> None:
    person = Person("secret")

    prepare(hosts(), PLAIN, person)
    assert SECRETS.get(SecretKind.LOGIN) is None
    for _ in range(2):
        prepare(hosts(), Connecting(ask_password=True), person)

    assert person.prompts == ["Password of the login: "]
    assert SECRETS.get(SecretKind.LOGIN) == "secret"


def test_asking_for_a_password_without_a_terminal_is_refused() -> None:
    with pytest.raises(Refused, match="no terminal"):
        prepare(hosts(), Connecting(ask_password=True), nobody)


def test_an_empty_password_is_not_tried_on_any_host() -> None:
    with pytest.raises(Refused, match="is empty"):
        prepare(hosts(), Connecting(ask_password=True), Person(""))

    assert SECRETS.get(SecretKind.LOGIN) is None


def test_a_machine_without_openssh_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare(hosts(), PLAIN, nobody) == ()
    monkeypatch.setenv("PATH", "/nowhere")

    (note,) = prepare(hosts(), PLAIN, nobody)

    assert "ssh_config is not read" in note
