"""Copies `fleet.onhost`, psutil and chosen test modules to a lab host and runs one of them there."""

import io
import json
import tarfile
from typing import Any

from fleet.lab.hosts.lab_host import LabHost
from fleet.ssh.delivery.bundle import psutil_files
from tests.support.places import ROOT

FOLDER = "/opt/puppet"
PACKAGES = ("fleet", "tests", "tests/support", "tests/support/lab", "tests/support/onhost")
EMPTY = tuple(f"{package}/__init__.py" for package in PACKAGES)


def carry(host: LabHost, files: dict[str, bytes]) -> None:
    """The host has what its part of a test needs under FOLDER; `files` are further ones, by their path there."""
    packed = dict.fromkeys(EMPTY, b"") | dict(psutil_files()) | files
    for path in [*(ROOT / "fleet/onhost").rglob("*.py"), *(ROOT / "tests/support/lab").glob("puppet*.py")]:
        packed[str(path.relative_to(ROOT))] = path.read_bytes()
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
