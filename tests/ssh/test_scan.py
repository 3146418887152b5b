"""`fleet trust` lists unknown keys as ssh-keygen does, asks once, and stores them together; changed keys never."""

import io
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet import cli
from fleet.commands.trust import bits_and_type
from fleet.environment import Environment
from fleet.host import Host
from fleet.ssh.hostkeys.acceptance import PresentedKey
from fleet.ssh.hostkeys.known_hosts import keys_of
from fleet.ssh.scan import ScannedAddress, _Scan
from fleet.task import Connecting
from tests.support.ssh.hops import Hops, hops, name_of
from tests.support.ssh.server import Sshd, fingerprint, free_port, make_key, public
from tests.support.ssh.stubs import QUICK


@dataclass
class Operator:
    """An operator with a host behind two bastions. `answer` is what the operator types; `None` without a terminal."""

    there: Hops
    inventory: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    answer: str | None = "y"
    out: str = ""
    err: str = ""

    def __call__(self, *words: str) -> int:
        """The exit code of `fleet WORDS`; what it wrote is in `out` and `err`."""
        self.monkeypatch.setattr("sys.stdin", io.StringIO(f"{self.answer}\n"))
        environment = Environment(is_terminal=lambda: self.answer is not None)
        args = ("-i", str(self.inventory), *words, "-F", str(self.there.config))
        code = cli.run(args, environment)
        self.out, self.err = self.capsys.readouterr()
        return code

    def inventory_of(self, *lines: str) -> None:
        self.inventory.write_text("all:\n  hosts:\n" + "".join(f"    {line}\n" for line in lines))

    @property
    def known(self) -> list[str]:
        """The lines of known_hosts."""
        return self.there.known_hosts.read_text().splitlines()

    def server(self, at: int) -> Sshd:
        return self.there.servers[at]

    def line(self, at: int) -> str:
        return f"[127.0.0.1]:{self.server(at).port} {self.server(at).public_key}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hops]:
    with hops(tmp_path_factory.mktemp("hops"), 3) as found:
        yield found


@pytest.fixture
def fleet(
    running: Hops, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    running.know()
    for name in ("FLEET_INVENTORY", "FLEET_LIMIT", "FLEET_YES", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    operator = Operator(running, tmp_path / "hosts.yaml", capsys, monkeypatch)
    operator.inventory_of(f"web-01: {{ansible_host: {name_of(2)}}}")
    return operator


def test_bastions_are_trusted_before_the_hosts_behind_them(fleet: Operator) -> None:
    codes, lengths = [], []
    for _ in range(4):
        codes.append(fleet("trust"))
        lengths.append(len(fleet.known))

    assert codes == [2, 2, 0, 0]
    assert lengths == [1, 2, 3, 3]
    assert fleet.known == [fleet.line(0), fleet.line(1), fleet.line(2)]
    assert "3 of 3 keys known" in fleet.out
    assert "Trust" not in fleet.err


def test_an_unknown_bastion_is_listed_with_its_fingerprint_and_the_hosts_behind_it(fleet: Operator) -> None:
    fleet("trust")

    at = f"[127.0.0.1]:{fleet.server(0).port}"
    print_of = fingerprint(fleet.server(0).folder / "host_ed25519")
    assert f"{at} (bastion for 1 host)\n    256 {print_of} {at} (ED25519)\n" in fleet.out
    assert (
        f"Not trusted, for the reasons above: {at.replace(str(fleet.server(0).port), str(fleet.server(1).port))}"
        in fleet.err
    )
    assert f"web-01: It was not scanned: its bastion [127.0.0.1]:{fleet.server(1).port}" in fleet.out
    assert "Accept the bastion's key, then run fleet trust again." in fleet.out


def test_a_fingerprint_stays_on_one_line_and_a_shared_message_is_printed_once(fleet: Operator) -> None:
    fleet.monkeypatch.setenv("COLUMNS", "60")
    waiting = [f"web-0{number}: {{ansible_host: {name_of(1)}, ansible_port: 220{number}}}" for number in range(7)]
    fleet.inventory_of(f"gate.production.eu-central-1.example.net: {{ansible_host: {name_of(0)}}}", *waiting)

    fleet("trust")

    assert f" {fingerprint(fleet.server(0).folder / 'host_ed25519')} " in fleet.out
    assert fleet.out.count("It was not scanned") == 1
    assert "web-00, web-01, web-02, web-03, web-04 and 2 more: It was not scanned" in fleet.out


def test_a_scan_logs_in_at_no_host(fleet: Operator) -> None:
    fleet.inventory_of(f"gate: {{ansible_host: {name_of(0)}}}")
    log = fleet.server(0).folder / "sshd.log"
    before = log.read_text().count("Accepted")

    assert fleet("trust") == 0
    assert log.read_text().count("Accepted") == before


def test_keys_come_through_a_proxy_command_too(fleet: Operator, tmp_path: Path) -> None:
    fleet.there.know(0)
    config, through = (
        fleet.there.config,
        f"ssh -F {fleet.there.config} -W 127.0.0.1:{fleet.server(1).port} {name_of(0)}",
    )
    own = tmp_path / "config"
    own.write_text(f"Host proxied\n  HostKeyAlias proxied\n  ProxyCommand {through}\n{config.read_text()}")
    fleet.there = replace(fleet.there, config=own)
    fleet.inventory_of("web-01: {ansible_host: proxied}")

    assert fleet("trust") == 0
    assert fleet.known == [fleet.line(0), f"proxied {fleet.server(1).public_key}"]


def test_an_interrupted_scan_ends_every_wait(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = Host("web-01", "127.0.0.1", silent.getsockname()[1], known_hosts=str(tmp_path / "known_hosts"))
        scanning = _Scan(replace(QUICK, banner_s=600), ThreadPoolExecutor(1))
        found: list[ScannedAddress] = []
        thread = threading.Thread(target=lambda: found.extend(scanning.run([host], Connecting(ssh_config="none"))))
        thread.start()
        near, _ = silent.accept()
        near.recv(1)

        scanning.close()

        thread.join()
        near.close()
    assert [each.is_known for each in found] == [False]


def test_a_machine_without_openssh_is_reported(fleet: Operator) -> None:
    there = f"ansible_host: 127.0.0.1, ansible_port: {fleet.server(0).port}"
    fleet.inventory_of(f"gate: {{{there}, fleet_known_hosts: {fleet.there.known_hosts}}}")
    fleet.monkeypatch.setenv("PATH", "/nowhere")

    assert fleet("trust") == 0
    assert "ssh_config is not read" in fleet.err
    assert fleet.known == [fleet.line(0)]


def test_two_names_of_one_address_are_one_key(fleet: Operator) -> None:
    at = f"{{ansible_host: {name_of(0)}}}"
    fleet.inventory_of(f"one: {at}", f"two: {{ansible_host: {name_of(0)}, ansible_user: other}}")

    assert fleet("trust") == 0
    assert "one, two" in fleet.out
    assert fleet.known == [fleet.line(0)]


@pytest.mark.parametrize("further", ["", "{tmp}/more"], ids=["", "and one has a further file"])
def test_two_keys_of_one_name_are_shown_and_neither_is_stored(fleet: Operator, tmp_path: Path, further: str) -> None:
    """Each of the two could pass for the other. Other new keys are stored."""
    config = tmp_path / "config"
    nodes = "".join(
        f"Host node-{at}\n  HostName 127.0.0.1\n  Port {fleet.server(at).port}\n  HostKeyAlias cluster\n"
        for at in (1, 2)
    )
    config.write_text(nodes + fleet.there.config.read_text())
    files = f"{fleet.there.known_hosts} {further.format(tmp=tmp_path)}"
    config.write_text(f"Host node-2\n  UserKnownHostsFile {files}\n{config.read_text()}")
    fleet.there = replace(fleet.there, config=config)
    fleet.inventory_of(
        "one: {ansible_host: node-1}", "two: {ansible_host: node-2}", f"gate: {{ansible_host: {name_of(0)}}}"
    )

    assert fleet("trust", "-y") == 2

    assert fleet.known == [fleet.line(0)]
    assert "Not trusted, for the reasons above: one, two." in fleet.err
    assert all(fingerprint(fleet.server(at).folder / "host_ed25519") in fleet.out for at in (1, 2))
    assert fleet.out.count("HostKeyAlias") == 2


def test_two_keys_of_one_name_in_files_of_their_own_are_trusted(fleet: Operator, tmp_path: Path) -> None:
    """As for two networks with the same addresses."""
    config = tmp_path / "config"
    nodes = "".join(
        f"Host node-{at}\n  HostName 127.0.0.1\n  Port {fleet.server(at).port}\n  HostKeyAlias cluster\n"
        f"  UserKnownHostsFile {tmp_path}/{at}\n"
        for at in (1, 2)
    )
    config.write_text(nodes + fleet.there.config.read_text())
    fleet.there = replace(fleet.there, config=config)
    fleet.inventory_of("one: {ansible_host: node-1}", "two: {ansible_host: node-2}")

    assert fleet("trust", "-y") == 0
    assert [(tmp_path / str(at)).read_text() for at in (1, 2)] == [
        f"cluster {fleet.server(at).public_key}\n" for at in (1, 2)
    ]


@pytest.mark.parametrize("answer", ["n", "", "yo"])
def test_without_agreement_nothing_is_stored(fleet: Operator, answer: str) -> None:
    fleet.answer = answer

    assert fleet("trust") == 2
    assert fleet.known == []
    assert "Trust 1 key and store it in" in fleet.err
    assert "Not confirmed" in fleet.err


def test_without_a_terminal_the_answer_must_be_an_option(fleet: Operator) -> None:
    fleet.answer = None
    fleet.inventory_of(f"gate: {{ansible_host: {name_of(0)}}}")

    assert fleet("trust") == 2
    assert "This command writes to known_hosts" in fleet.err
    assert fleet.known == []

    assert fleet("trust", "-y") == 0
    assert fleet.known == [fleet.line(0)]


def test_a_changed_key_is_shown_loudly_and_never_stored(fleet: Operator, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    changed = f"[127.0.0.1]:{fleet.server(0).port} {public(other)}"
    fleet.there.known_hosts.write_text(changed + "\n")
    fleet.inventory_of(f"gate: {{ansible_host: {name_of(0)}}}", f"web-01: {{ansible_host: {name_of(1)}}}")

    assert fleet("trust", "-y") == 2

    assert fleet.known == [changed]
    framed = fleet.err.partition("!" * 100)[2].partition("!" * 100)[0]
    assert "HAS CHANGED" in framed
    assert framed.count("gate") == 1
    assert fingerprint(other) in framed
    assert fingerprint(fleet.server(0).folder / "host_ed25519") in framed
    assert f"{fleet.there.known_hosts}:1" in framed
    assert "See the message for" in fleet.out


def test_a_visit_of_a_host_behind_a_bastion_with_a_changed_key_is_refused_as_loudly(
    fleet: Operator, tmp_path: Path
) -> None:
    fleet.there.know(0)
    with fleet.there.known_hosts.open("a") as sink:
        sink.write(f"[127.0.0.1]:{fleet.server(1).port} {public(make_key(tmp_path / 'other'))}\n")

    assert fleet("status") == 4

    framed = fleet.err.partition("!" * 100)[2].partition("!" * 100)[0]
    assert "web-01: The bastion 127.0.0.1 port" in framed
    assert "HAS CHANGED" in framed
    assert f"{fleet.there.known_hosts}:2" in framed


def test_unreachable_hosts_are_listed_and_the_others_are_trusted(fleet: Operator) -> None:
    fleet.inventory_of(
        f"gate: {{ansible_host: {name_of(0)}}}", f"down: {{ansible_host: 127.0.0.1, ansible_port: {free_port()}}}"
    )

    assert fleet("trust", "-y") == 2

    assert fleet.known == [fleet.line(0)]
    assert "down: 127.0.0.1 port" in fleet.out
    assert "refuses the connection" in fleet.out
    assert "Not trusted, for the reasons above: down." in fleet.err


def test_the_json_document_lists_every_address(fleet: Operator) -> None:
    fleet.there.know(0)
    fleet.answer = None

    assert fleet("trust", "--json") == 2

    found = json.loads(fleet.out)
    assert found["schema"] == "fleet.trust/1"
    assert [(key["state"], key["hosts"], key["bastion_before"]) for key in found["keys"]] == [
        ("known", [], ["web-01"]),
        ("unknown", [], ["web-01"]),
        ("not_asked", ["web-01"], []),
    ]
    assert found["keys"][1]["fingerprint"] == fingerprint(fleet.server(1).folder / "host_ed25519")
    assert found["keys"][1]["type"] == "ssh-ed25519"
    assert [key["reason"] for key in found["keys"]] == [None, "host_key_unknown", "behind_bastion"]
    assert fleet.known == [fleet.line(0)]


def test_a_scan_accepts_no_key_whatever_ssh_config_says(fleet: Operator) -> None:
    fleet.answer = "n"

    assert fleet("trust", "--host-keys", "accept-new") == 2
    assert fleet.known == []


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_is_described_as_ssh_keygen_does(tmp_path: Path, kind: str) -> None:
    path = make_key(tmp_path / "key", kind)
    (tmp_path / "known_hosts").write_text(f"web-01 {public(path)}\n")
    (key,) = keys_of((str(tmp_path / "known_hosts"),), "web-01")
    said = subprocess.run(
        ["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True
    ).stdout.split()

    size, name = bits_and_type(PresentedKey(key.type, key.blob))

    assert (str(size), PresentedKey(key.type, key.blob).fingerprint, f"({name})") == (said[0], said[1], said[-1])
