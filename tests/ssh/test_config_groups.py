"""One answer of `ssh -G` for many hosts: it is the answer that each of them gets alone, or it is not used."""

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.ssh import openssh_config
from fleet.ssh.config_groups import files_read, stanzas
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import resolve
from fleet.task import PLAIN

NAMES = (
    *("web-01", "web-02", "web-03", "web-10", "web-11.example.net", "db-1", "db-2", "gate", "192.0.2.7", "192.0.2.77"),
    *("2001:db8::7", "WEB-02", "Web-03", "a", "b", "h", "none", "all", "web_1"),
)
CONFIGS = {
    "no stanza": "Port 2222\nUser deploy\n",
    "patterns": "Host web-*\n  User deploy\nHost web-0? !web-02\n  Port 22022\nHost *\n  Compression yes\n",
    "case": "Host WEB-* Web-0?\n  User shouting\nHost web-02\n  Port 1\n",
    "equals and tabs": "host=web-01 db-*\n\tuser = deploy\nHOST\tgate\n  Port=2\n",
    "comments": "# Host web-01\nHost web-* # db-1\n  User deploy # all\n",
    "quotes": 'Host "web-01" \'db-1\'\n  User "deploy"\n',
    "names": "Host web-01\n  HostName 192.0.2.7\nHost web-*\n  HostName web-01\nHost db-*\n  HostName gate\n",
    "a name of a host": "Host web-*\n  HostName web-02\n",
    "tokens in a name": "Host web-*\n  HostName %h.example.net\nHost db-*\n  HostName %%.example.net\n",
    "tokens in files": "Host *\n  UserKnownHostsFile ~/k-%h ~/k-%C\n  IdentityFile ~/%n-%r\n",
    "tokens in a command": "Host *\n  ProxyCommand nc %h %p %n\n  ControlPath ~/.ssh/%r@%h:%p\n",
    "hash": "Host *\n  RevokedHostKeys ~/%C\n",
    "a jump": "Host web-* db-?\n  ProxyJump gate\nHost gate\n  User door\n  Port 44\n",
    "a jump of all": "Host *\n  ProxyJump deploy@gate:22,[2001:db8::7]\n",
    "a jump with a token": "Host web-*\n  ProxyJump gw-%n\n",
    "Match all": "Host web-01\n  User one\nMatch all\n  Port 9\n",
    "Match": "Match originalhost web-0? host !web-02\n  User matched\nMatch user root host db-*\n  Port 7\n",
    "Match exec": 'Match exec "test %h = web-01"\n  User matched\n',
    "Match final": "Host web-01\n  HostName db-1\nMatch final host db-1\n  Port 7\n",
    "canonical": "CanonicalizeHostname yes\nCanonicalDomains invalid\nHost *.invalid\n  Port 7\n",
    "not canonical": "CanonicalizeHostname no\nHost web-01\n  Port 7\n",
    "includes": "Include {folder}/one\nHost web-* !web-03\n  Include {folder}/two\nHost *\n  Include {folder}/t*\n",
    "an alias": "Host web-*\n  HostKeyAlias alias\n  CheckHostIP no\n",
}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    openssh_config._READERS.clear()
    openssh_config._answer.cache_clear()


def host(name: str, user: str | None = None, port: int | None = None) -> Host:
    return Host(name="a host", address=name, user=user, port=port)


def settings(config: str, each: Host) -> object:
    try:
        return resolve(each, replace(PLAIN, ssh_config=config))
    except LinkError as error:
        return error.reason, error.message


def alone(config: str, hosts: list[Host], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The settings of each host, for which ssh is asked for each."""
    with monkeypatch.context() as patch:
        patch.setattr(openssh_config, "_shared", lambda asked, state: None)
        return [settings(config, each) for each in hosts]


def mixed(seed: str) -> list[Host]:
    """Hosts of every name, with and without a user and a port of the inventory, in any order."""
    plain = [host(name) for name in NAMES]
    given = [host(name, user="ann", port=2000 + number) for number, name in enumerate(NAMES)]
    others = [host(name, port=22) for name in NAMES[:4]] + [host("web-02", user="root")]
    hosts = [*plain, *given, *others]
    random.Random(seed).shuffle(hosts)
    return hosts


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_each_host_gets_the_answer_that_it_gets_alone(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text("Host web-01\n  User included\nHost d*\n  Port 91\n")
    (tmp_path / "two").write_text("Host web-02\n  User nested\nHost *\n  Port 92\n")
    path = tmp_path / "config"
    path.write_text(text.format(folder=tmp_path))
    hosts = mixed(text)

    together = [settings(str(path), each) for each in hosts]

    assert together == alone(str(path), hosts, monkeypatch)


@pytest.mark.parametrize("seed", range(6))
def test_each_host_gets_it_from_a_random_configuration_too(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    pieces = ("web-", "0", "1", "?", "*", "db-", "gate", ".example.net", "192.0.2.7", "!web-02", " ")
    values = (
        "User u{0}",
        "Port {0}",
        "HostName 192.0.2.{0}",
        "HostName web-0{0}",
        "HostKeyAlias k{0}",
        "ProxyJump gate",
    )
    lines = []
    for number in range(1, 9):
        lines.append("Host " + ("".join(dice.choices(pieces, k=dice.randint(1, 4))).strip() or "*"))
        lines += [f"  {each.format(number)}" for each in dice.sample(values, 2)]
    path = tmp_path / "config"
    path.write_text("\n".join(lines))
    hosts = mixed(str(seed))

    together = [settings(str(path), each) for each in hosts]

    assert together == alone(str(path), hosts, monkeypatch)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The commands that run from now on."""
    ran: list[tuple[str, ...]] = []
    run = openssh_config._run

    def told(words: tuple[str, ...]) -> subprocess.CompletedProcess[bytes]:
        ran.append(words)
        return run(words)

    monkeypatch.setattr(openssh_config, "_run", told)
    return ran


DEBIANS = "Include {folder}/*.conf\nHost *\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n"
OWN = "Host web-1*\n  User deploy\n  ProxyCommand nc %h %p\nHost *\n  Port 2222\n"


@pytest.mark.parametrize("text", [None, DEBIANS, OWN], ids=["none", "Debian's", "own"])
def test_a_thousand_hosts_cost_a_few_questions(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text((text or "").format(folder=tmp_path))
    connecting = replace(PLAIN, ssh_config=str(tmp_path / "config") if text else "none")
    ran = asked(monkeypatch)

    found = [resolve(host(f"web-{number}", port=number or None), connecting) for number in range(1000)]

    assert [each.hostname for each in found] == [f"web-{number}" for number in range(1000)]
    assert [each.port for each in found][1:] == list(range(1, 1000))
    assert len(ran) <= 6


def test_a_changed_include_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host web-01\n  Port 1\n")
    (tmp_path / "config").write_text(f"Include {tmp_path}/more\n")
    before = [resolve(host(name), replace(PLAIN, ssh_config=str(tmp_path / "config"))).port for name in NAMES[:3]]

    (tmp_path / "more").write_text("Host web-*\n  Port 2222\n")
    os.utime(tmp_path / "config")
    after = [resolve(host(name), replace(PLAIN, ssh_config=str(tmp_path / "config"))).port for name in NAMES[:3]]

    assert (before, after) == ([1, 22, 22], [2222, 2222, 2222])


def test_files_that_ssh_does_not_name_in_full_are_not_relied_on(tmp_path: Path) -> None:
    path = str(tmp_path / ("long" * 50))

    assert files_read("debug1: Reading configuration data /etc/ssh/ssh_config\r\n", None) == (
        Path("/etc/ssh/ssh_config"),
    )
    assert files_read(f"debug1: Reading configuration data {path[:200]}\n", path) is None
    assert files_read("", "/some/config") is None
    assert files_read("", "none") == ()


def test_a_line_of_unknown_shape_is_left_to_ssh() -> None:
    assert stanzas(["Host *\n  User a\n", "\ufeffHost web-01\n"]) is None
    assert stanzas(['"Host" web-01\n']) is None
    assert stanzas(["Host web-01\n\n  # words\n"]) is not None
