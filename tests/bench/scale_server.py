"""Thousands of pretend hosts behind one SSH server: a real handshake, a real login by key, and the on-host protocol.

Each host has a loopback address of its own (127.1.0.1, 127.1.0.2, …), all have one port and one host key. One process
and one thread serve them all, with asyncssh, which the project itself does not need: `tests/bench/scale.py` starts this in
an environment of its own. What a host answers is `tests/support/pretend/login.py`.

    python -m tests.bench.scale_server FOLDER HOSTS [TAKES_S]

FOLDER holds the host's key (`host_ed25519`) and `authorized_keys`; the port is written to `FOLDER/port` when all is ready,
and the number of logins so far to `FOLDER/logins`.
"""

import asyncio
import sys
import traceback
from pathlib import Path

import asyncssh

from tests.support.pretend.login import PretendHost, address, answer_login

BACKLOG = 1024


class Hosts:
    """All hosts by address. `logins` counts those of all."""

    def __init__(self, folder: Path, count: int, takes_s: float) -> None:
        self._logins = 0
        self._counted = folder / "logins"
        self.by_address = {address(number): PretendHost(f"web-{number:04}") for number in range(count)}
        self.takes_s = takes_s

    def connected(self) -> asyncssh.SSHServer:
        """A connection has been made."""
        self._logins += 1
        self._counted.write_text(str(self._logins))
        return asyncssh.SSHServer()

    async def serve(self, process: asyncssh.SSHServerProcess) -> None:
        """One command of one login."""
        host = self.by_address[process.get_extra_info("sockname")[0]]
        try:
            await answer_login(host, process.command, process.stdin, process.stdout.write, self.takes_s)
            process.exit(0)
        except (asyncssh.Error, asyncio.IncompleteReadError, ConnectionError, BrokenPipeError):
            process.close()
        except Exception:
            traceback.print_exc()  # asyncssh would end the connection without a word
            raise


async def serve(folder: Path, count: int, takes_s: float) -> None:
    """Serves until it is killed."""
    hosts = Hosts(folder, count, takes_s)
    server = await asyncssh.listen(
        "0.0.0.0",
        0,
        server_host_keys=[str(folder / "host_ed25519")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=hosts.serve,
        server_factory=hosts.connected,
        encoding=None,
        backlog=BACKLOG,
        kex_algs=["curve25519-sha256", "curve25519-sha256@libssh.org"],
        encryption_algs=["aes128-gcm@openssh.com"],
        keepalive_interval=0,
    )
    (folder / "port.new").write_text(str(server.get_port()))
    (folder / "port.new").rename(folder / "port")
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0))
