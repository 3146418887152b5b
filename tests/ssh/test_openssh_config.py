"""Each line of ssh_config means what it means to OpenSSH."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.ssh import config_tokens
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import NamedBy, Settings, resolve
from fleet.task import PLAIN, HostKeys

HOME = config_tokens.home()


def settings(folder: Path, config: str, host: Host | None = None, host_keys: HostKeys | None = None) -> Settings:
    path = folder / "config"
    path.write_text(config)
    return resolve(host or a_host(), replace(PLAIN, ssh_config=str(path), host_keys=host_keys))


def a_host(address: str = "web-01") -> Host:
    return Host(name="web-01", address=address)


def test_what_openssh_does_without_a_configuration() -> None:
    found = resolve(a_host("192.0.2.7"), replace(PLAIN, ssh_config="none"))

    assert (found.hostname, found.port, found.user) == ("192.0.2.7", 22, config_tokens.local_user())
    assert found.key_name == "192.0.2.7"
    assert found.known_hosts[0] == f"{HOME}/.ssh/known_hosts"
    assert "/etc/ssh/ssh_known_hosts" in found.known_hosts
    assert f"{HOME}/.ssh/id_ed25519" in found.identity_files
    assert (found.host_keys, found.identities_only) == (HostKeys.STRICT, False)
    assert (found.jump, found.proxy_command, found.connect_timeout_s) == (None, None, None)


def test_include_and_match_count(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("Host web-*\n  User deploy\n  HostName 192.0.2.9\n")
    config = f"Include {tmp_path}/more.conf\nMatch originalhost web-01 exec true\n  Port 2222 # the bastion's\n"

    found = settings(tmp_path, config)

    assert (found.user, found.hostname, found.port) == ("deploy", "192.0.2.9", 2222)
    assert found.key_name == "[192.0.2.9]:2222"


def test_the_inventory_wins_over_ssh_config(tmp_path: Path) -> None:
    config = "Host *\n  User nobody\n  Port 1\n  IdentityFile ~/other\n  UserKnownHostsFile /other\n"
    host = replace(a_host(), user="deploy", port=2200, key_files=("/key",), known_hosts="/known")

    found = settings(tmp_path, config, host)

    assert (found.user, found.port) == ("deploy", 2200)
    assert (found.identity_files, found.identities_only) == (("/key",), True)
    assert found.known_hosts == ("/known",)


def test_the_source_of_the_key_files_is_known(tmp_path: Path) -> None:
    inventory = replace(a_host(), key_files=("/key",))

    assert settings(tmp_path, "Host *\n  Port 22\n").named_by is NamedBy.OPENSSH
    assert settings(tmp_path, "Host *\n  IdentityFile ~/.ssh/id_ed25519\n").named_by is NamedBy.SSH_CONFIG
    assert settings(tmp_path, "Host *\n  IdentityFile ~/other\n", inventory).named_by is NamedBy.INVENTORY


def test_files_tokens_and_variables_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    config = """Host *
  HostName %h.example.net
  IdentityFile ~/k-%n-%h-%p-%%
  IdentityFile ${KEYS}/second
  CertificateFile %d/k-cert.pub
  IdentitiesOnly yes
  IdentityAgent ~/agent-%r
  HostKeyAlias alias
  UserKnownHostsFile ~/a /b
  GlobalKnownHostsFile none
  RevokedHostKeys ~/revoked
"""
    found = settings(tmp_path, config)

    assert found.identity_files == (f"{HOME}/k-web-01-web-01.example.net-22-%", "/keys/second")
    assert found.certificate_files == (f"{HOME}/k-cert.pub",)
    assert found.agent == f"{HOME}/agent-{found.user}"
    assert found.identities_only
    assert found.key_name == "alias"
    assert found.known_hosts == (f"{HOME}/a", "/b")
    assert found.revoked_keys == f"{HOME}/revoked"


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        ("IdentityAgent none", None),
        ("IdentityAgent $OTHER", "/other"),
        ("IdentityAgent SSH_AUTH_SOCK", "/sock"),
        ("", "/sock"),
    ],
)
def test_the_agent_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, agent: str | None
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/sock")
    monkeypatch.setenv("OTHER", "/other")

    assert settings(tmp_path, f"Host *\n  {line}\n").agent == agent


def test_times_and_families_are_followed(tmp_path: Path) -> None:
    config = "Host *\n  ConnectTimeout 1m\n  ServerAliveInterval 15\n  ServerAliveCountMax 2\n  AddressFamily inet6\n"

    found = settings(tmp_path, config)

    assert (found.connect_timeout_s, found.alive_every_s, found.alive_misses) == (60.0, 15.0, 2)
    assert found.family == socket.AF_INET6


@pytest.mark.parametrize(
    ("word", "given", "mode"),
    [
        ("ask", None, HostKeys.STRICT),
        ("yes", None, HostKeys.STRICT),
        ("accept-new", None, HostKeys.ACCEPT_NEW),
        ("no", None, HostKeys.ACCEPT_NEW),
        ("accept-new", HostKeys.STRICT, HostKeys.STRICT),
        ("yes", HostKeys.ACCEPT_NEW, HostKeys.ACCEPT_NEW),
    ],
)
def test_host_keys_are_strict_by_default(tmp_path: Path, word: str, given: HostKeys | None, mode: HostKeys) -> None:
    assert settings(tmp_path, f"Host *\n  StrictHostKeyChecking {word}\n", host_keys=given).host_keys is mode


def test_a_connect_timeout_of_zero_is_none(tmp_path: Path) -> None:
    assert settings(tmp_path, "Host *\n  ConnectTimeout 0\n").connect_timeout_s is None


def test_a_chain_of_bastions_is_resolved_hop_by_hop(tmp_path: Path) -> None:
    """As in `ssh -J`: each hop has its own options; only the first hop's own ProxyJump counts."""
    config = """Host web-01
  ProxyJump inner,deploy@[2001:db8::2]:2200
Host inner
  HostName 192.0.2.1
  User gate
  ProxyJump outer
Host outer
  Port 2022
Host 2001:db8::2
  ProxyJump nobody-asks-for-this
  HostKeyAlias outpost
"""
    last = settings(tmp_path, config).jump

    assert last is not None
    assert (last.hostname, last.port, last.user, last.key_name) == ("2001:db8::2", 2200, "deploy", "outpost")
    assert last.jump is not None
    assert (last.jump.hostname, last.jump.user) == ("192.0.2.1", "gate")
    assert last.jump.jump is not None
    assert (last.jump.jump.hostname, last.jump.jump.port, last.jump.jump.jump) == ("outer", 2022, None)


def test_the_user_of_a_bastion_may_have_a_domain(tmp_path: Path) -> None:
    """As in ssh, the host begins after the last `@`."""
    config = "Host web-01\n  ProxyJump jane@corp.example@gate:2200,joe@corp.example@[2001:db8::2]\n"

    last = settings(tmp_path, config).jump

    assert last is not None
    assert (last.user, last.hostname, last.port) == ("joe@corp.example", "2001:db8::2", 22)
    assert last.jump is not None
    assert (last.jump.user, last.jump.hostname, last.jump.port) == ("jane@corp.example", "gate", 2200)


@pytest.mark.parametrize(
    ("jumps", "hops"),
    [
        ("gw-%n", [("root", "gw-web-01", 22)]),
        ("a-%h,%r@b-%h", [("deploy", "b-192.0.2.7", 22), ("root", "a-192.0.2.7", 22)]),
    ],
)
def test_the_tokens_of_a_jump_are_the_host_s_own(tmp_path: Path, jumps: str, hops: list[tuple[str, str, int]]) -> None:
    """`ssh -G` prints them unexpanded; `ssh` expands them when it starts the jump."""
    config = (
        f"Host web-01\n  HostName 192.0.2.7\n  User deploy\n  Port 2222\n  ProxyJump {jumps}\nHost *\n  User root\n"
    )

    found, hop = [], settings(tmp_path, config).jump
    while hop is not None:
        found.append((hop.user, hop.hostname, hop.port))
        hop = hop.jump

    assert found == hops


def test_no_jump_is_none(tmp_path: Path) -> None:
    config = "Host web-01\n  ProxyJump none\nHost * !bastion\n  ProxyJump bastion\n"

    assert settings(tmp_path, config).jump is None
    assert settings(tmp_path, config, a_host("db-01")).jump is not None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("Host *\n  ProxyJump bastion\n", "jumphost loop via bastion"),
        ("Host * !b1\n  ProxyJump b1\nHost b1\n  ProxyJump b2\n", "is not a list of at most 8 hosts"),
    ],
    ids=["one", "two"],
)
def test_bastions_behind_each_other_are_refused(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(LinkError) as caught:
        settings(tmp_path, config)

    assert caught.value.reason == "ssh_config_refused"
    assert words in caught.value.message


def test_a_proxy_command_gets_its_tokens(tmp_path: Path) -> None:
    config = "Host *\n  HostName 192.0.2.5\n  ProxyCommand nc -w 5 %h %p # %n of %r\n"

    assert settings(tmp_path, config).proxy_command == f"nc -w 5 192.0.2.5 22 # web-01 of {config_tokens.local_user()}"


@pytest.mark.parametrize(
    "config",
    ["Host *\n  Prt 22\n", "Host *\n  Port none\n", "Match weather rainy\n  User other\n"],
    ids=["a slip", "no port", "an unknown Match"],
)
def test_a_configuration_that_ssh_refuses_is_refused_with_its_words(tmp_path: Path, config: str) -> None:
    with pytest.raises(LinkError) as caught:
        settings(tmp_path, config)

    assert caught.value.reason == "ssh_config_refused"
    assert f"{tmp_path}/config" in caught.value.message
    assert "ssh -G" in caught.value.remedy


@pytest.mark.parametrize("ssh_config", [None, "none"])
def test_a_user_without_a_name_is_refused(monkeypatch: pytest.MonkeyPatch, ssh_config: str | None) -> None:
    """As in a container that runs as a numeric user."""
    monkeypatch.setattr("os.getuid", lambda: 54321)

    with pytest.raises(LinkError, match="The user 54321") as caught:
        resolve(a_host(), replace(PLAIN, ssh_config=ssh_config))

    assert caught.value.reason == "ssh_config_refused"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="No such file"):
        resolve(a_host(), replace(PLAIN, ssh_config=str(tmp_path / "gone")))


def test_a_long_configuration_is_followed_to_its_end(tmp_path: Path) -> None:
    """Fabric reads it again in Python for every connection. For the cost see tests/bench/longfiles.py."""
    long = "".join(f"Host other-{number}\n  User deploy\n  Port {number}\n" for number in range(1, 1001))

    assert settings(tmp_path, f"{long}Host *\n  Port 2222\n").port == 2222


def test_a_configuration_that_changes_is_read_again(tmp_path: Path) -> None:
    assert settings(tmp_path, "Host *\n  Port 2201\n").port == 2201
    assert settings(tmp_path, "Host *\n  Port 22022\n").port == 22022


def test_without_openssh_the_inventory_and_the_defaults_are_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    found = resolve(replace(a_host(), user="deploy", port=2200), PLAIN)

    assert found.named_by is NamedBy.OPENSSH
    assert (found.hostname, found.user, found.port, found.key_name) == ("web-01", "deploy", 2200, "[web-01]:2200")
    assert f"{HOME}/.ssh/id_ed25519" in found.identity_files
    assert f"{HOME}/.ssh/known_hosts" in found.known_hosts


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        ("/bin/bash", "[[ %h == web-* ]]"),
        ("/usr/bin/fish", "string match -q 'web-*' %h"),
        ("/bin/tcsh", "if (%h =~ web-*) exit 0"),
        ("/bin/sh", "case %h in web-*) ;; *) false; esac"),
    ],
)
def test_match_exec_runs_by_the_operator_s_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, command: str
) -> None:
    monkeypatch.setenv("SHELL", shell)

    assert settings(tmp_path, f'Match exec "{command}"\n  Port 2222\n').port == 2222


def test_a_shell_that_match_exec_can_t_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/nowhere/bash")

    with pytest.raises(LinkError) as caught:
        settings(tmp_path, "Match exec true\n  Port 2222\n")

    assert caught.value.reason == "ssh_config_refused"
    assert '"/nowhere/bash" is not executable' in caught.value.message
    assert caught.value.remedy.endswith("`export SHELL=/bin/sh`")
