"""asyncssh: one connection and one channel a host; the release goes over the stdin of the command."""

import asyncio
import sys
from pathlib import Path

import asyncssh

from tests.bench.peers.clients.task import Task, given

PIECE_BYTES = 256 << 10


async def on_host(task: Task, address: str, release: memoryview, turn: asyncio.Semaphore) -> bool:
    async with (
        turn,
        asyncssh.connect(
            address,
            username="root",
            client_keys=[task.key],
            known_hosts=task.known_hosts,
            config=None,
            agent_path=None,
            kex_algs=["curve25519-sha256"],
            encryption_algs=["aes128-gcm@openssh.com"],
        ) as connection,
        connection.create_process(task.command, encoding=None) as process,
    ):
        for start in range(0, len(release), PIECE_BYTES):
            process.stdin.write(bytes(release[start : start + PIECE_BYTES]))
            await process.stdin.drain()
        process.stdin.write_eof()
        done = await process.wait()
    return bool(done.exit_status == 0)


async def all_hosts(task: Task) -> int:
    release = memoryview(Path(task.release).read_bytes() if task.release else b"")
    turn = asyncio.Semaphore(task.at_once)
    hosts = [on_host(task, address, release, turn) for address in task.addresses]
    done = await asyncio.gather(*hosts, return_exceptions=True)
    for each in done:
        if each is not True:
            print(repr(each), file=sys.stderr)
    return sum(each is not True for each in done)


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(all_hosts(given())) else 0)
