"""No key is accepted that known_hosts does not hold for that host, whatever else is in the file."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.ssh.hostkeys.acceptance import PresentedKey, known_host_for
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import resolve
from fleet.ssh.transport.connection import Link
from fleet.task import PLAIN
from tests.support.ssh.server import Sshd, fingerprint, make_key, public
from tests.support.ssh.stubs import QUICK


def connect(server: Sshd) -> bool:
    """Log in and out; whether the connection was open. Raises `LinkError`."""
    link = Link(server.host, QUICK)
    try:
        link.open()
        return link.is_active
    finally:
        link.close()


def refusal(server: Sshd) -> LinkError:
    with pytest.raises(LinkError) as caught:
        connect(server)
    return caught.value


@pytest.mark.parametrize(
    "lines",
    [
        ["{name} {key}"],
        ["other.example,{name} {key} a comment"],
        ["[127.0.0.*]:* {key}"],
        ["127.0.0.1 {key}"],
        ["{name} ssh-ed25519 AAAAtruncated", "{name}", "", "# words", "{name} ssh-dss AAAA", "{name} {key}"],
        ["@cert-authority * {key}", "{name} {key}"],
    ],
    ids=["plain", "among others", "pattern", "without the port", "after broken lines", "beside an authority"],
)
def test_a_known_key_is_accepted(server: Sshd, lines: list[str]) -> None:
    server.know(*lines)

    assert connect(server)


def test_a_hashed_name_is_found(server: Sshd) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)

    assert "127.0.0.1" not in server.known_hosts.read_text()
    assert connect(server)


def test_a_second_known_key_of_the_same_type_does_not_hide_the_first(server: Sshd, tmp_path: Path) -> None:
    server.know("{name} {key}", "{name} " + public(make_key(tmp_path / "other")))

    assert connect(server)


def test_the_server_is_asked_for_the_type_that_is_known(server: Sshd) -> None:
    server.know("{name} " + public(server.folder / "host_ecdsa"))
    link = Link(server.host, QUICK)

    key = link.presented_key()

    link.close()
    assert key.type == "ecdsa-sha2-nistp256"
    assert connect(server)


@pytest.mark.parametrize(
    "lines", [[], ["other.example {key}"], ["[*]:*,!{name} {key}"]], ids=["empty", "another host", "excluded"]
)
def test_an_unknown_host_is_refused_with_its_fingerprint(server: Sshd, lines: list[str]) -> None:
    server.know(*lines)

    failure = refusal(server)

    assert failure.reason == "host_key_unknown"
    assert fingerprint(server.folder / "host_ed25519") in failure.message
    assert str(server.known_hosts) in failure.message


def test_a_host_without_any_known_hosts_file_is_refused(server: Sshd) -> None:
    server.known_hosts.unlink()

    assert refusal(server).reason == "host_key_unknown"


def test_a_changed_key_is_refused_with_the_line_and_both_fingerprints(server: Sshd, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    server.know("# the old one", "{name} " + public(other))

    failure = refusal(server)

    assert failure.reason == "host_key_changed"
    assert "HAS CHANGED" in failure.message
    assert f"{server.known_hosts}:2" in failure.message
    assert fingerprint(other) in failure.message
    assert fingerprint(server.folder / "host_ed25519") in failure.message


def test_the_remedy_for_a_changed_key_removes_it_from_every_file(server: Sshd, tmp_path: Path) -> None:
    files = [tmp_path / "first file", tmp_path / "second"]
    for file in files:
        file.write_text(f"web {public(make_key(tmp_path / f'key of {file.name}'))}\n")
    names = tuple(map(str, files))
    settings = replace(resolve(server.host, PLAIN), key_name="web", known_hosts=names)
    failure = known_host_for(settings).rejection(PresentedKey("ssh-ed25519", b"another"), 0)
    assert failure is not None

    said = failure.remedy.partition("Only then run: ")[2].partition(", and accept")[0]
    subprocess.run(["/bin/sh", "-c", said], check=True, capture_output=True)

    assert known_host_for(settings).keys == ()


def test_a_key_of_another_type_than_the_known_one_is_a_change(server: Sshd, tmp_path: Path) -> None:
    server.know("{name} " + public(make_key(tmp_path / "other", "rsa")))

    assert refusal(server).reason == "host_key_changed"


def test_another_key_than_the_one_known_without_the_port_is_unknown_not_changed(server: Sshd, tmp_path: Path) -> None:
    server.know("127.0.0.1 " + public(make_key(tmp_path / "other")))

    assert refusal(server).reason == "host_key_unknown"


@pytest.mark.parametrize("names", ["*", "127.0.0.1"])
def test_a_revoked_key_is_refused_even_where_it_is_known(server: Sshd, names: str) -> None:
    """A key that is revoked for the plain name is revoked for each of its ports."""
    server.know(f"@revoked {names} {{key}}", "{name} {key}")

    failure = refusal(server)

    assert failure.reason == "host_key_revoked"
    assert f"{server.known_hosts}:1" in failure.message


def test_a_certificate_authority_alone_is_no_known_key_and_is_named(server: Sshd) -> None:
    server.know("@cert-authority * {key}")

    failure = refusal(server)

    assert failure.reason == "host_key_unknown"
    assert "It presents no certificate, though an authority is known for it" in failure.message
    assert f"({server.known_hosts}:1)" in failure.message


def test_a_file_that_changes_is_read_again(server: Sshd) -> None:
    server.know("other.example {key}")
    assert known_host_for(resolve(server.host, PLAIN)).keys == ()

    server.know("{name} {key}")

    assert [key.line for key in known_host_for(resolve(server.host, PLAIN)).keys] == [1]


def test_the_default_files_are_those_of_the_user_and_the_system(server: Sshd) -> None:
    files = known_host_for(resolve(replace(server.host, known_hosts=None), PLAIN)).files

    assert files[0].endswith("/.ssh/known_hosts")
    assert "/etc/ssh/ssh_known_hosts" in files


def test_a_known_key_is_found_at_the_end_of_a_long_file(server: Sshd, tmp_path: Path) -> None:
    """paramiko reads all of it in Python for every connection. For the cost see tests/bench/longfiles.py."""
    other = public(make_key(tmp_path / "other"))
    server.know(*(f"web-{number},192.0.2.{number} {other}" for number in range(2000)), "{name} {key}")

    assert connect(server)
