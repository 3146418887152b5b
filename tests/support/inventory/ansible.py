"""Runs the programs of ansible-core, which is installed beside fleet for the tests."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCRIPTS = Path(sys.executable).parent
"""Where `ansible-inventory` is."""


def run(program: str, *words: str) -> str:
    """What a program of Ansible prints; it must end with 0."""
    done = subprocess.run([SCRIPTS / program, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(sources: Sequence[str]) -> dict[str, Any]:
    """The JSON of `ansible-inventory --list` over the sources."""
    data: dict[str, Any] = json.loads(
        run("ansible-inventory", "--list", *(word for each in sources for word in ("-i", each)))
    )
    return data


def members(data: dict[str, Any]) -> dict[str, set[str]]:
    """Every group with its hosts and those of its children. Ansible leaves out groups without hosts."""

    def below(name: str) -> set[str]:
        group = data.get(name, {})
        return set(group.get("hosts", ())).union(*(below(child) for child in group.get("children", ())))

    return {name: below(name) for name in data if name != "_meta"}
