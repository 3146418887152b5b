"""ssh's own options in an inventory (`ansible_ssh_common_args` and its like) lead where they lead Ansible's ssh."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.host import Host, SshArguments
from fleet.inventory import load
from fleet.plan import make_plan
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import NamedBy, Settings, resolve
from fleet.ssh.remote.command import Command
from fleet.ssh.transport.bastion import close_bastions
from fleet.ssh.transport.connection import Link
from fleet.task import PLAIN, Connecting, HostKeys
from tests.support.ssh.server import Sshd, make_key, public, sshd
from tests.support.ssh.stubs import QUICK

NO_FILE = Connecting(ssh_config="none")


def given(folder: Path, **variables: object) -> Host:
    """The host of an inventory with these variables; text is written between quotes."""
    path = folder / "hosts.yml"
    written = {name: str(value).replace("'", "''") for name, value in variables.items()}
    lines = "".join(f"          {name}: '{value}'\n" for name, value in written.items())
    path.write_text(f"all:\n  children:\n    web:\n      hosts:\n        web1:\n{lines}")
    (host,) = load([path]).hosts
    return host


def hops_of(found: Settings) -> list[str]:
    """The bastions before the host, the nearest to it first."""
    hops, jump = [], found.jump
    while jump is not None:
        hops.append(f"{jump.user}@{jump.hostname}:{jump.port}")
        jump = jump.jump
    return hops


@pytest.mark.parametrize(
    "variables",
    [
        {"ansible_ssh_common_args": "-o ProxyJump=ops@gate.example.net:2200"},
        {"ansible_ssh_common_args": "-p 2222 -l ann", "ansible_port": 22022, "ansible_user": "deploy"},
        {"ansible_ssh_args": "-C -o Port=2222 -l ann", "ansible_port": 22022, "ansible_user": "deploy"},
        {"ansible_ssh_common_args": "-l ann -o Port=2222", "ansible_ssh_extra_args": "-l bea -p 2223"},
        {"ansible_ssh_common_args": "-o ProxyJump=none", "ansible_ssh_extra_args": "-o ProxyJump=gate"},
        {"ansible_ssh_args": "-Jouter,inner", "ansible_host": "192.0.2.9"},
        {"ansible_ssh_extra_args": '-o ProxyCommand="ssh -W %h:%p -q gate"', "ansible_ssh_common_args": "-4"},
        {"ansible_ssh_common_args": "-o HostName=10.0.0.9 -o HostKeyAlias=web -o ServerAliveInterval=7"},
        {
            "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o IdentitiesOnly=yes"
        },
    ],
    ids=lambda variables: " ".join(str(value) for value in variables.values()),
)
def test_the_options_mean_what_they_mean_in_ansible_s_command_line(
    tmp_path: Path, variables: dict[str, object]
) -> None:
    """The right values come from ssh itself, with the words in the order of Ansible's ssh connection."""
    found = resolve(given(tmp_path, **variables), NO_FILE)

    ansible = said_by_ssh(variables)
    assert (found.hostname, str(found.port), found.user) == (ansible["hostname"], ansible["port"], ansible["user"])
    assert bool(hops_of(found)) == ("proxyjump" in ansible)
    assert bool(found.proxy_command) == ("proxycommand" in ansible)
    assert found.key_name.split("]")[0].lstrip("[") == ansible.get("hostkeyalias", ansible["hostname"])
    assert found.alive_every_s == float(ansible["serveraliveinterval"])
    assert found.identities_only == (ansible["identitiesonly"] == "yes")
    strict = ansible["stricthostkeychecking"] in ("true", "ask")
    assert found.host_keys is (HostKeys.STRICT if strict else HostKeys.ACCEPT_NEW)


def said_by_ssh(variables: dict[str, object]) -> dict[str, str]:
    """`ssh -G` of the command line that Ansible 2.19 runs, without a configuration file."""
    words = ["ssh -F none -G", str(variables.get("ansible_ssh_args", ""))]
    words += [f"-o Port={variables['ansible_port']}"] if "ansible_port" in variables else []
    words += [f"-o 'User=\"{variables['ansible_user']}\"'"] if "ansible_user" in variables else []
    words += [str(variables.get(name, "")) for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args")]
    line = " ".join([*words, str(variables.get("ansible_host", "web1"))])
    shown = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=True).stdout
    return dict(row.partition(" ")[::2] for row in shown.splitlines())


def test_a_chain_in_one_option_is_a_chain(tmp_path: Path) -> None:
    found = resolve(given(tmp_path, ansible_ssh_common_args="-J ann@outer:2201,ops@inner"), NO_FILE)

    assert hops_of(found) == ["ops@inner:22", "ann@outer:2201"]


def test_the_file_of_f_is_that_of_the_bastions_too(tmp_path: Path) -> None:
    """As with ssh, which passes -F on to the ssh of a jump, and none of the other options."""
    config = tmp_path / "ops.cfg"
    config.write_text("Host gate\n  User ops\n  HostName 192.0.2.1\n  Port 2201\nHost web1\n  HostName 192.0.2.2\n")

    found = resolve(given(tmp_path, ansible_ssh_args=f"-F {config} -J gate -p 2222"), PLAIN)

    assert (found.hostname, found.port, hops_of(found)) == ("192.0.2.2", 2222, ["ops@192.0.2.1:2201"])


def test_the_operator_s_own_file_goes_before_that_of_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("Host *\n  Port 2201\n")
    (tmp_path / "two").write_text("Host *\n  Port 2202\n")
    host = given(tmp_path, ansible_ssh_common_args=f"-F {tmp_path}/one")

    assert resolve(host, PLAIN).port == 2201
    assert resolve(host, Connecting(ssh_config=str(tmp_path / "two"))).port == 2202


def test_key_files_of_the_options_are_offered_after_the_inventory_s_own(tmp_path: Path) -> None:
    own, other, third = (make_key(tmp_path / name) for name in ("own", "other", "third"))
    options = f"-i {other} -o IdentityFile={third} -i {tmp_path}/missing"

    named = resolve(given(tmp_path, ansible_ssh_private_key_file=own, ansible_ssh_common_args=options), NO_FILE)
    alone = resolve(given(tmp_path, ansible_ssh_common_args=options), NO_FILE)

    assert (named.identity_files, named.named_by) == ((str(own), str(other), str(third)), NamedBy.INVENTORY)
    assert (alone.identity_files, alone.named_by) == ((str(other), str(third)), NamedBy.SSH_CONFIG)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-o PrxyJump=gate", "Bad configuration option: prxyjump"),
        ("-p no-port", "Bad port 'no-port'"),
        ("-J gate -J other", "Only a single -J option is permitted"),
        ("-o Host=web1", "Host directive not supported as a command-line option"),
    ],
)
def test_an_option_that_ssh_refuses_is_refused_in_its_words(tmp_path: Path, options: str, words: str) -> None:
    with pytest.raises(LinkError) as caught:
        resolve(given(tmp_path, ansible_ssh_extra_args=options), NO_FILE)

    assert caught.value.reason == "ssh_config_refused"
    assert words in caught.value.message
    assert "ansible_ssh_extra_args in the inventory until this works: `ssh -G -" in caught.value.remedy


def test_options_without_openssh_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ssh, fleet would go to the host directly, which may be another machine of that address."""
    host = given(tmp_path, ansible_ssh_common_args="-J gate")
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(LinkError) as caught:
        resolve(host, PLAIN)

    assert caught.value.reason == "ssh_config_refused"
    assert "no `ssh`" in caught.value.message


@pytest.mark.parametrize(
    ("host", "command"),
    [
        (Host("web1", "web1", user="ann;touch${IFS}owned"), "nc %r@%h %p"),
        (Host("web1", "fe80::1%$(id)"), "nc %h %p"),
        (Host("web1", "fe80::1%eth0 -x"), "nc %n %p"),
        (Host("web1", "web1", user="ann -oProxyCommand=x"), "ssh -l %r gate"),
        (Host("web1", "web1", user="`id`"), "sh -c 'nc %r'"),
    ],
)
def test_a_name_never_becomes_a_command_of_the_shell(host: Host, command: str) -> None:
    """As in OpenSSH 9.6: a ProxyCommand is a line for the shell, and a name in it only a name."""
    arguments = SshArguments(last=(f"-oProxyCommand={command}",))

    with pytest.raises(LinkError) as caught:
        resolve(replace(host, ssh_arguments=arguments), NO_FILE)

    assert caught.value.reason == "ssh_config_refused"


@pytest.mark.parametrize("user", ["ann@corp.example", "CORP\\ann", "deploy$"])
def test_an_ordinary_name_may_stand_in_a_proxy_command(user: str) -> None:
    host = Host("web1", "192.0.2.9", user=user, ssh_arguments=SshArguments(last=("-oProxyCommand=nc %r %h %p",)))

    assert resolve(host, NO_FILE).proxy_command == f"nc {user} 192.0.2.9 22"


def test_one_address_behind_two_bastions_is_two_machines(tmp_path: Path) -> None:
    one = given(tmp_path, ansible_host="10.0.0.5", ansible_ssh_common_args="-J gate-a")
    other = replace(one, name="web2", ssh_arguments=SshArguments(last=("-Jgate-b",)))

    assert [host.name for host in make_plan((one, other)).hosts] == ["web1", "web2"]


@dataclass(frozen=True, slots=True)
class Site:
    """Two bastions and a host on real sshds; the ssh_config knows only the bastions, known_hosts what a test writes."""

    outer: Sshd
    inner: Sshd
    last: Sshd
    folder: Path

    def know(self, *servers: Sshd) -> None:
        lines = [f"[127.0.0.1]:{server.port} {server.public_key}\n" for server in servers]
        (self.folder / "known_hosts").write_text("".join(lines))

    @property
    def config(self) -> Path:
        path = self.folder / "config"
        lines = []
        for name, server in (("outer", self.outer), ("inner", self.inner)):
            lines += [f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n  User root\n"]
            lines += [f"  IdentityFile {server.host.key_files[0]}\n"]
        lines += [
            f"Host *\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {self.folder}/known_hosts\n"
        ]
        path.write_text("".join(lines))
        return path

    def host(self, **variables: object) -> Host:
        """The host of an inventory, by an address that only a bastion of this site is asked for."""
        return given(self.folder, ansible_host="127.0.0.1", **variables)

    @property
    def login(self) -> str:
        return f"-i {self.last.host.key_files[0]} -l root -p {self.last.port}"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sshd, Sshd, Sshd]]:
    with ExitStack() as stack:
        outer, inner, last = (
            stack.enter_context(sshd(tmp_path_factory.mktemp(name))) for name in ("outer", "inner", "last")
        )
        yield outer, inner, last


@pytest.fixture
def site(servers: tuple[Sshd, Sshd, Sshd], tmp_path: Path) -> Iterator[Site]:
    found = Site(*servers, tmp_path)
    found.know(*servers)
    yield found
    close_bastions()


def logins(server: Sshd) -> int:
    return (server.folder / "sshd.log").read_text(errors="replace").count("Accepted publickey")


def says(host: Host) -> bytes:
    link = Link(host, QUICK, PLAIN)
    try:
        link.open()
        (found,) = Command(link, "exec echo in").lines(lambda: QUICK.silence_s)
        return found
    finally:
        link.close()


@pytest.mark.parametrize(
    ("variables", "steps"),
    [
        ({"ansible_ssh_common_args": "-F {config} {login} -o ProxyJump=outer"}, (1, 0, 1)),
        ({"ansible_ssh_common_args": "-F {config} -Jouter,inner", "ansible_ssh_extra_args": "{login}"}, (1, 1, 1)),
        ({"ansible_ssh_args": "-CF{config} -o 'ProxyCommand=ssh -F {config} -W %h:%p inner'"}, (0, 1, 1)),
        ({"ansible_ssh_args": "-F {config}", "ansible_ssh_common_args": "{login}"}, (0, 0, 1)),
    ],
    ids=["a jump", "a chain", "a command", "no bastion"],
)
def test_a_host_is_reached_by_the_way_that_the_options_name(
    site: Site, variables: dict[str, str], steps: tuple[int, int, int]
) -> None:
    words = {name: text.format(config=site.config, login=site.login) for name, text in variables.items()}
    if "{login}" not in str(variables):
        words |= {"ansible_user": "root", "ansible_port": str(site.last.port)}
        words |= {"ansible_ssh_private_key_file": site.last.host.key_files[0]}
    before = [logins(server) for server in (site.outer, site.inner, site.last)]

    assert says(site.host(**words)) == b"in"

    after = [logins(server) for server in (site.outer, site.inner, site.last)]
    assert tuple(now - then for now, then in zip(after, before, strict=True)) == steps


@pytest.mark.parametrize("missing", ["outer", "inner", "last"])
@pytest.mark.parametrize("other", [False, True], ids=["unknown", "changed"])
def test_the_host_key_of_every_hop_is_checked(site: Site, missing: str, *, other: bool) -> None:
    """Whatever the options say of host keys: these are the host's own, and those of the bastions are not touched by them."""
    sound = [getattr(site, name) for name in ("outer", "inner", "last") if name != missing]
    site.know(*sound)
    if other:
        key = public(make_key(site.folder / "other"))
        with (site.folder / "known_hosts").open("a") as sink:
            sink.write(f"[127.0.0.1]:{getattr(site, missing).port} {key}\n")
    strict = "-o StrictHostKeyChecking=no" if missing != "last" else ""
    host = site.host(ansible_ssh_common_args=f"-F {site.config} {site.login} -J outer,inner {strict}")

    with pytest.raises(LinkError) as caught:
        says(host)

    assert caught.value.reason == ("host_key_changed" if other else "host_key_unknown")
    assert str(getattr(site, missing).port) in caught.value.message
