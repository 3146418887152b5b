"""One real sshd for the tests that need nothing special of it."""

from collections.abc import Iterator

import pytest

from tests.ssh.server import Sshd, sshd


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), host_keys=("ed25519", "ecdsa")) as running:
        yield running


@pytest.fixture
def server(shared_server: Sshd) -> Sshd:
    """A plain sshd, with known_hosts as it should be."""
    shared_server.know("{name} {key}")
    return shared_server
