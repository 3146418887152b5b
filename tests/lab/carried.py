"""Brings `fleet.onhost`, psutil and chosen test modules to a lab host and runs one of them there."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import fleet
from fleet.lab.host import LabHost
from fleet.ssh.bundle import psutil_files

FOLDER = "/opt/puppet"
TREE = Path(fleet.__file__).parents[1]
EMPTY = ("fleet/__init__.py", "tests/__init__.py", "tests/lab/__init__.py", "tests/onhost/__init__.py")


def carry(host: LabHost, files: dict[str, bytes]) -> None:
    """The host has what its part of a test needs under FOLDER; `files` are further ones, by their path there."""
    packed = dict.fromkeys(EMPTY, b"") | dict(psutil_files()) | files
    for path in [*(TREE / "fleet/onhost").glob("*.py"), *(TREE / "tests/lab").glob("puppet*.py")]:
        packed[str(path.relative_to(TREE))] = path.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as sink:
        for name, data in packed.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            sink.addfile(entry, io.BytesIO(data))
    script = f"mkdir -p {FOLDER} && tar -x -C {FOLDER}"
    done = host.exec(["/bin/sh", "-euc", script], input=buffer.getvalue())
    assert done.returncode == 0, done.stderr


def run_there(host: LabHost, module: str, asked: object, timeout_s: float = 300.0) -> Any:
    """What the module prints there, from JSON, for what it is asked."""
    argv = ["/usr/bin/env", f"PYTHONPATH={FOLDER}", "python3", "-m", module]
    done = host.exec(argv, input=json.dumps(asked).encode(), timeout_s=timeout_s)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout)
