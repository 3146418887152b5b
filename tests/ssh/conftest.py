"""One real sshd for the tests that need no special settings."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.host import Host
from fleet.ssh.transport.connection import Link
from tests.support.ssh.server import Sshd, sshd
from tests.support.ssh.stubs import QUICK


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), host_keys=("ed25519", "ecdsa")) as running:
        yield running


@pytest.fixture
def server(shared_server: Sshd) -> Sshd:
    """A plain sshd, with known_hosts as it should be."""
    shared_server.know("{name} {key}")
    return shared_server


@pytest.fixture
def fresh(server: Sshd, tmp_path: Path) -> Host:
    """The host with a state folder of this test's own."""
    return replace(server.host, layout=server.host.layout._replace(state_dir=str(tmp_path / "state")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's own empty ~/.ssh, below which `ssh -G` prints OpenSSH's default key files."""
    monkeypatch.setattr("fleet.ssh.config_tokens.home", lambda: str(tmp_path))
    found = tmp_path / ".ssh"
    found.mkdir()
    return found


@pytest.fixture
def link(server: Sshd) -> Iterator[Link]:
    """An open connection to it."""
    found = Link(server.host, QUICK)
    found.open()
    yield found
    found.close()
