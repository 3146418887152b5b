"""A host certificate is accepted where OpenSSH accepts it, and the message names what is wrong with any other.

Each case is tried by `ssh` itself, too: fleet connects where it does.
"""

import subprocess
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.ssh.hostkeys import certificates
from fleet.ssh.link_errors import LinkError
from fleet.ssh.transport.connection import Link
from fleet.task import Connecting, HostKeys
from tests.support.ssh.server import Sshd, fingerprint, make_key, public, sshd
from tests.support.ssh.stubs import QUICK


@dataclass(frozen=True, slots=True)
class Certified:
    """An sshd that presents the certificate in its folder, and two authorities."""

    server: Sshd
    authorities: Path

    def ca(self, name: str) -> Path:
        return self.authorities / name

    def certify(self, *options: str, ca: str = "ours", kind: str = "ed25519", by: tuple[str, ...] = ()) -> None:
        """Its key of that kind has a certificate with these options of ssh-keygen."""
        self.uncertify()
        key = self.server.folder / f"host_{kind}.pub"
        words = ["ssh-keygen", "-q", "-s", str(self.ca(ca)), *by, "-I", "host", *options]
        subprocess.run([*words, key], check=True, capture_output=True)

    def uncertify(self) -> None:
        for path in self.server.folder.glob("host_*-cert.pub"):
            path.unlink()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    """sshd re-executes itself for each connection, and reads its certificates again."""
    folder, authorities = tmp_path_factory.mktemp("sshd"), tmp_path_factory.mktemp("authorities")
    for name, kind in (("ours", "ed25519"), ("theirs", "ed25519"), ("ours_rsa", "rsa"), ("ours_ecdsa", "ecdsa")):
        make_key(authorities / name, kind)
    kinds = ("ed25519", "ecdsa", "rsa")
    lines = [f"HostCertificate {folder}/host_{kind}-cert.pub" for kind in kinds]
    with sshd(folder, *lines, host_keys=kinds) as server:
        yield Certified(server, authorities)


@pytest.fixture
def certified(running: Certified) -> Certified:
    """known_hosts holds only `ours` as an authority for every host."""
    running.uncertify()
    running.server.know("@cert-authority * " + public(running.ca("ours")))
    return running


def connect(server: Sshd, host_keys: HostKeys = HostKeys.STRICT) -> bool:
    """Log in and out; whether the connection was open. Raises `LinkError`."""
    link = Link(server.host, QUICK, Connecting(host_keys=host_keys))
    try:
        link.open()
        return link.is_active
    finally:
        link.close()


def rejection(server: Sshd, host_keys: HostKeys = HostKeys.STRICT) -> LinkError:
    with pytest.raises(LinkError) as caught:
        connect(server, host_keys)
    assert not is_accepted_by_ssh(server)
    assert caught.value.remedy
    return caught.value


def is_accepted_by_ssh(server: Sshd) -> bool:
    """Whether OpenSSH accepts the same host with the same files."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(server.known_hosts),
        "GlobalKnownHostsFile": "none",
        "IdentitiesOnly": "yes",
    }
    words = ["ssh", "-F", "none", "-n", "-p", str(server.port), "-i", server.host.key_files[0]]
    words += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    tried = subprocess.run([*words, "root@127.0.0.1", "true"], check=False, capture_output=True, text=True)
    assert tried.returncode == 0 or "Host key verification failed" in tried.stderr, tried.stderr
    return tried.returncode == 0


@pytest.mark.parametrize(
    "options",
    [
        ("-h", "-n", "127.0.0.1"),
        ("-h", "-n", "web-01,127.0.0.1", "-V", "-1d:+1d"),
        ("-h", "-V", "always:forever"),
    ],
    ids=["for this name", "among others, for two days", "for every name"],
)
def test_a_certificate_by_a_known_authority_proves_the_host(certified: Certified, options: tuple[str, ...]) -> None:
    certified.certify(*options)

    assert connect(certified.server)
    assert is_accepted_by_ssh(certified.server)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("ca", ["ours", "ours_rsa", "ours_ecdsa"])
def test_every_kind_of_key_is_certified_by_every_kind(certified: Certified, kind: str, ca: str) -> None:
    certified.certify("-h", "-n", "127.0.0.1", kind=kind, ca=ca)
    certified.server.know("@cert-authority 127.0.0.1 " + public(certified.ca(ca)))

    assert connect(certified.server)


def test_the_authority_may_be_named_with_the_port(certified: Certified) -> None:
    certified.certify("-h", "-n", "127.0.0.1")
    certified.server.know("@cert-authority {name} " + public(certified.ca("ours")))

    assert connect(certified.server)
    assert is_accepted_by_ssh(certified.server)


def test_an_alias_is_the_name_in_the_certificate(certified: Certified, tmp_path: Path) -> None:
    certified.certify("-h", "-n", "web")
    (tmp_path / "config").write_text("Host *\n  HostKeyAlias web\n")
    certified.server.know("@cert-authority web " + public(certified.ca("ours")))
    link = Link(certified.server.host, QUICK, Connecting(ssh_config=str(tmp_path / "config")))

    link.open()
    is_open = link.is_active
    link.close()

    assert is_open


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-h", "-n", "127.0.0.1", "-V", "20200101:20200102"), "expired at 2020-01-0"),
        (("-h", "-n", "127.0.0.1", "-V", "+2d:+3d"), "is not valid before 20"),
        (("-h", "-n", "web-02,127.0.0.2"), "is for web-02, 127.0.0.2, not for 127.0.0.1"),
        (("-h", "-n", "127.0.0.*"), "is for 127.0.0.*, not for 127.0.0.1"),
        (("-h", "-n", "[127.0.0.1]:22"), "is for [127.0.0.1]:22, not for 127.0.0.1"),
        (("-n", "127.0.0.1"), "is for users, not for hosts"),
        (("-h", "-n", "127.0.0.1", "-O", "critical:odd@example.net=1"), "has critical options"),
    ],
    ids=["expired", "not yet", "another name", "a pattern", "with the port", "for users", "with conditions"],
)
def test_a_certificate_that_proves_nothing_is_refused_with_the_reason(
    certified: Certified, options: tuple[str, ...], words: str
) -> None:
    certified.certify(*options)

    failure = rejection(certified.server)

    assert failure.reason == "host_certificate_refused"
    assert words in failure.message
    assert f"{certified.server.known_hosts}:1" in failure.message


def test_a_certificate_that_proves_nothing_is_not_accepted_as_new(certified: Certified) -> None:
    certified.certify("-h", "-n", "web-02")
    before = certified.server.known_hosts.read_text()

    assert rejection(certified.server, HostKeys.ACCEPT_NEW).reason == "host_certificate_refused"
    assert certified.server.known_hosts.read_text() == before


def test_a_signature_with_sha1_is_refused(certified: Certified) -> None:
    certified.certify("-h", "-n", "127.0.0.1", ca="ours_rsa", by=("-t", "ssh-rsa"))
    certified.server.know("@cert-authority * " + public(certified.ca("ours_rsa")))

    failure = rejection(certified.server)

    assert failure.reason == "host_certificate_refused"
    assert "is signed with ssh-rsa" in failure.message


def test_a_certificate_by_another_authority_names_both(certified: Certified) -> None:
    certified.certify("-h", "-n", "127.0.0.1", ca="theirs")

    failure = rejection(certified.server)

    assert failure.reason == "host_key_unknown"
    assert "by another authority" in failure.message
    assert fingerprint(certified.ca("theirs")) in failure.message
    assert fingerprint(certified.ca("ours")) in failure.message


def test_an_authority_for_other_hosts_is_none_for_this_one(certified: Certified) -> None:
    certified.certify("-h", "-n", "127.0.0.1")
    certified.server.know("@cert-authority *.example.net " + public(certified.ca("ours")))

    assert rejection(certified.server).reason == "host_key_unknown"


def test_a_known_key_is_accepted_whatever_is_wrong_with_its_certificate(certified: Certified) -> None:
    certified.certify("-h", "-n", "web-02", ca="theirs")
    certified.server.know("@cert-authority * " + public(certified.ca("ours")), "{name} {key}")

    assert connect(certified.server)
    assert is_accepted_by_ssh(certified.server)


@pytest.mark.parametrize("revoked", ["the authority", "the key"])
def test_a_revoked_key_is_refused_in_a_certificate_too(certified: Certified, revoked: str) -> None:
    certified.certify("-h", "-n", "127.0.0.1")
    ours = public(certified.ca("ours"))
    which = ours if revoked == "the authority" else "{key}"
    certified.server.know(f"@revoked * {which}", f"@cert-authority * {ours}", "{name} {key}")

    failure = rejection(certified.server)

    assert failure.reason == "host_key_revoked"
    assert f"{certified.server.known_hosts}:1" in failure.message


def test_a_certificate_whose_signature_is_broken_is_not_signed(certified: Certified) -> None:
    certified.certify("-h", "-n", "127.0.0.1")
    blob = bytearray(blob_of(certified.server.folder / "host_ed25519-cert.pub"))
    whole = certificates.read(bytes(blob))
    blob[-1] ^= 1

    assert whole.fault("127.0.0.1", whole.content.valid_after) is None
    said = certificates.read(bytes(blob)).fault("127.0.0.1", whole.content.valid_after)
    assert said == "is not signed by the authority that it names"


def test_a_certificate_that_is_cut_off_anywhere_is_none(certified: Certified) -> None:
    certified.certify("-h", "-n", "127.0.0.1")
    blob = blob_of(certified.server.folder / "host_ed25519-cert.pub")

    for length in range(len(blob)):
        with pytest.raises(ValueError, match=r".+"):
            certificates.read(blob[:length])


def blob_of(path: Path) -> bytes:
    return b64decode(path.read_text().split()[1])
