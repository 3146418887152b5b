"""Records the phase fixtures of the unit tests from real nginx: `python -m tests.lab.record_phases`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.lab.lab import Lab
from fleet.lab.releases.build import DEFAULT_BASE, make_release
from tests.support.lab.carried import carry, run_there
from tests.support.lab.puppet import RECORDED
from tests.support.onhost.phase_fixtures import comparable, save


def record_all() -> dict[str, dict[str, Any]]:
    """Every recorded phase, seen afresh on a lab host of its own."""
    lab = Lab.up(name="phases", count=1)
    try:
        with TemporaryDirectory() as folder:
            new = make_release("new", Path(folder) / "new").read_bytes()
        carry(lab.hosts[0], {"old": DEFAULT_BASE.read_bytes(), "new": new})
        told = run_there(lab.hosts[0], "tests.support.lab.puppet", {"do": "record"})
        return {name: comparable(seen, told["sha256"]) for name, seen in told["seen"].items()}
    finally:
        lab.down()


if __name__ == "__main__":
    for name, data in record_all().items():
        save(name, RECORDED[name][1], data)
