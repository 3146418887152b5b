"""Conversations that are kept open and idle: what 50, 200 and 500 of them cost the controller in CPU and memory.

Each count runs in a process of its own, which looks at so many pretend hosts (`tests/bench/scale_server.py`), keeps all
connections, and then does nothing for a while.

    python -m tests.bench.idle [COUNTS...]
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet.host import Host
from fleet.inventory import load
from fleet.onhost.protocol import PROTOCOL, Ask, Outcome, Request
from fleet.ssh.visit import close_kept, visit
from fleet.task import Connecting, HostTask
from tests.bench.scale import environment, pretend_hosts
from tests.support.places import ROOT

AT_ONCE = 20
IDLE_S = 10.0


def resident_kb() -> int:
    """The resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def look_at(hosts: list[Host], keep_open: int) -> Iterator[Outcome]:
    """Looks at each host once."""
    look = Request(PROTOCOL, Ask.LOOK, "idle", 1, "ann@desk", None, ())
    tasks = [HostTask(host, look, connecting=Connecting(keep_open=keep_open)) for host in hosts]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from (outcome.outcome for outcome in pool.map(lambda task: visit(task, lambda event: None), tasks))


def idle(inventory: Path, count: int) -> str:
    """The row of the Markdown table."""
    hosts, _ = load([inventory]).selection([], frozenset(), None)
    assert set(look_at(list(hosts[:AT_ONCE]), 0)) == {Outcome.DONE}  # what is loaded and made once is not counted
    before_kb = resident_kb()
    assert set(look_at(list(hosts[AT_ONCE:]), count)) == {Outcome.DONE}
    kept_kb = resident_kb() - before_kb
    began_s, began_at = time.process_time(), time.monotonic()
    time.sleep(IDLE_S)
    used = (time.process_time() - began_s) / (time.monotonic() - began_at)
    threads = threading.active_count()
    close_kept()
    return f"| {count} | {1000 * used:.1f} ms | {kept_kb / 1024:.1f} MB | {kept_kb / count:.0f} kB | {threads} |"


def main(counts: list[int]) -> None:
    """Prints the table."""
    print("| idle conversations | CPU a second | memory | memory each | threads |\n|---|---|---|---|---|", flush=True)
    with TemporaryDirectory(prefix="fleet-idle-") as name:
        for count in counts:
            folder = Path(name) / str(count)
            folder.mkdir()
            with pretend_hosts(folder, environment(), count + AT_ONCE) as inventory:
                words = [sys.executable, "-m", "tests.bench.idle", "of", str(inventory), str(count)]
                subprocess.run(words, cwd=ROOT, check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["of"]:
        print(idle(Path(sys.argv[2]), int(sys.argv[3])), flush=True)
    else:
        main([int(word) for word in sys.argv[1:]] or [50, 200, 500])
