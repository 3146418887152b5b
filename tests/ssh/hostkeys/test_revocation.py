"""A key that RevokedHostKeys in ssh_config revokes is refused where `ssh` refuses it."""

import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.ssh.hostkeys.revocation import revokes
from fleet.ssh.link_errors import LinkError
from fleet.ssh.transport.connection import Link
from fleet.task import Connecting, HostKeys
from tests.support.ssh.server import Sshd, fingerprint, make_key, public
from tests.support.ssh.stubs import QUICK

Make = Callable[..., Path]


def blob(path: Path) -> bytes:
    return b64decode(path.read_text().split()[1])


def a_list(path: Path, *keys: Path) -> Path:
    path.write_text("# ours\n\n" + "".join(f"{public(key)} words\n" for key in keys))
    return path


def a_krl(path: Path, *keys: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", path, *(f"{key}.pub" for key in keys)], check=True)
    return path


def connect(server: Sshd, folder: Path, revoked: Path, host_keys: HostKeys | None = None) -> None:
    """Log in and out by an ssh_config that names these revoked keys. Raises `LinkError` where ssh does not connect either."""
    config = folder / "config"
    config.write_text(f"Host *\n  RevokedHostKeys {revoked}\n  UserKnownHostsFile {server.known_hosts}\n")
    link = Link(server.host, QUICK, Connecting(ssh_config=str(config), host_keys=host_keys))
    words = ["-o", "BatchMode=yes", "-i", server.host.key_files[0], "-p", str(server.port), "root@127.0.0.1", "true"]
    is_accepted = subprocess.run(["ssh", "-n", "-F", config, *words], check=False, capture_output=True).returncode == 0
    try:
        link.open()
    except LinkError:
        assert not is_accepted
        raise
    finally:
        link.close()
    assert is_accepted


@pytest.mark.parametrize("make", [a_list, a_krl])
def test_a_known_key_that_is_revoked_there_is_refused(server: Sshd, tmp_path: Path, make: Make) -> None:
    other = make_key(tmp_path / "other")
    key = server.folder / "host_ed25519"

    connect(server, tmp_path, make(tmp_path / "others", other))
    with pytest.raises(LinkError) as caught:
        connect(server, tmp_path, make(tmp_path / "revoked", other, key))

    assert caught.value.reason == "host_key_revoked"
    assert fingerprint(key) in caught.value.message
    assert str(tmp_path / "revoked") in caught.value.message


def test_an_unknown_key_that_is_revoked_is_not_accepted_as_new(server: Sshd, tmp_path: Path) -> None:
    server.know()

    with pytest.raises(LinkError) as caught:
        connect(server, tmp_path, a_list(tmp_path / "revoked", server.folder / "host_ed25519"), HostKeys.ACCEPT_NEW)

    assert caught.value.reason == "host_key_revoked"
    assert server.known_hosts.read_text() == ""


@pytest.mark.parametrize(
    "content", [None, b"SSHKRL\n\0 and no more", b"ssh-ed25519 AAA\n"], ids=["missing", "broken", "no key"]
)
def test_no_host_is_trusted_while_the_revocation_file_cannot_be_read(
    server: Sshd, tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "revoked").write_bytes(content)

    with pytest.raises(LinkError, match="no host key is accepted") as caught:
        connect(server, tmp_path, tmp_path / "revoked")

    assert caught.value.reason == "known_hosts_unreadable"


@pytest.mark.parametrize("make", [a_list, a_krl])
def test_a_certificate_is_as_good_as_its_key_and_its_authority(tmp_path: Path, make: Make) -> None:
    key, authority, other = (make_key(tmp_path / name) for name in ("key", "authority", "other"))
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-h", "-I", "x", "-n", "web", f"{key}.pub"], check=True)
    shown = blob(tmp_path / "key-cert.pub"), {blob(tmp_path / "key.pub"), blob(tmp_path / "authority.pub")}

    found = [revokes(str(make(tmp_path / f"of {path.name}", path)), *shown) for path in (key, authority, other)]

    assert found == [True, True, False]
