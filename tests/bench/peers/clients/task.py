"""What a peer is to do, as a file of JSON."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """A command for every host; `release` goes to `target` there first. `names` and `addresses` are in one order."""

    names: list[str]
    addresses: list[str]
    key: str
    known_hosts: str
    command: str
    release: str | None
    target: str
    at_once: int


def given(path: str | None = None) -> Task:
    return Task(**json.loads(Path(path or sys.argv[1]).read_text()))
