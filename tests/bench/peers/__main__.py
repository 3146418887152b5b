"""`python -m tests.bench.peers`: run the bench, as root. `./dev bench` makes what it needs, and the page afterwards."""

import argparse
import os
import platform
import signal
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from fleet.lab.requirements import check
from tests.bench.peers.contenders import Contender, contenders
from tests.bench.peers.jobs import Job
from tests.bench.peers.probes import all_probes
from tests.bench.peers.results import Results, read, together
from tests.bench.peers.rounds import Plan, rows_of
from tests.support.places import ROOT

OWN = str(Path(sys.executable).with_name("fleet"))


def parse(argv: list[str]) -> argparse.Namespace:
    """What to measure; the defaults are the quick bench."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="Run fleet and its peers on the same lab hosts.")
    parser.add_argument("--hosts", type=numbers, default=(10, 50), help="how many hosts, such as 10,50")
    parser.add_argument("--delays", type=numbers, default=(0,), help="round trips in ms, such as 0,20")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=jobs, default=tuple(Job), help="such as COLD,HELD")
    parser.add_argument("--only", type=lambda text: tuple(text.split(";")), help="contenders, separated by ;")
    parser.add_argument("--fleet", action="append", metavar="NAME=COMMAND", help="other versions of fleet")
    parser.add_argument("--no-probes", action="store_true", help="leave out what is not a job of all hosts")
    parser.add_argument("--name", default="bench", help="the name of the lab")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-peers", help="the peers' virtual environment")
    parser.add_argument("--out", type=Path, required=True, help="the results, as JSON; they are added to those there")
    return parser.parse_args(argv)


def numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def jobs(text: str) -> tuple[Job, ...]:
    return tuple(Job[word] for word in text.split(","))


def facts() -> dict[str, str]:
    """What a reader must know about the machine and the programs."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}",
        "load when it began": f"{os.getloadavg()[0]:.0f} processes",
        "OpenSSH": subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip(),
        "paramiko of fleet": metadata.version("paramiko"),
    }


def chosen(given: argparse.Namespace) -> tuple[Contender, ...]:
    fleets = [tuple(text.split("=", 1)) for text in given.fleet or [f"fleet={OWN}"]]
    every = contenders([(name, command) for name, command in fleets])
    return tuple(one for one in every if given.only is None or one.name in given.only)


def main() -> None:
    given = parse(sys.argv[1:])
    check()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = [read(given.out)] if given.out.exists() and given.out.stat().st_size else []
    for delay_ms in given.delays:
        for hosts in given.hosts:
            plan = Plan(given.name, hosts, delay_ms, given.rounds, given.jobs, chosen(given))
            for rows in rows_of(plan, given.peers):
                together([*found, Results(facts(), rows)]).write(given.out)
            found = [read(given.out)]
    if not given.no_probes:
        found.append(Results(facts(), probes=all_probes(given.name, OWN, given.rounds)))
        together(found).write(given.out)


if __name__ == "__main__":
    main()
