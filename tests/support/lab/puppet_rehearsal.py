"""Runs on a lab host: a rehearsal for the nginx that is there, asked in JSON on stdin and answered in JSON on stdout."""

import json
import sys

from fleet.onhost.instance import Instance
from fleet.onhost.protocol import Layout, Probe
from fleet.onhost.rehearsal import kernel
from fleet.onhost.rehearsal.rehearse import rehearse
from fleet.onhost.system.machine import Machine
from fleet.onhost.wire import encode


def refuse_overlays() -> None:
    """As on a kernel without overlay file systems."""
    really = kernel.mount

    def mount(source: str | None, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
        if kind == "overlay":
            raise OSError(19, "no such device")
        really(source, target, kind, flags, data)

    kernel.mount = mount


class Short(Machine):
    """A host with this much free memory."""

    def __init__(self, mib: int) -> None:
        self._mib = mib

    def read(self, path: str) -> str | None:
        if path == "/proc/meminfo":
            return f"MemAvailable:    {self._mib << 10} kB\n"
        return super().read(path)


def main() -> None:
    asked = json.load(sys.stdin)
    if not asked["overlays"]:
        refuse_overlays()
    machine = Machine() if asked["memory_mib"] is None else Short(asked["memory_mib"])
    instance = Instance.at(machine, Layout(pid_file=asked["pid_file"]))
    probes = tuple(Probe(url) for url in asked["probes"])
    print(encode(rehearse(instance, instance.look().masters[0], asked["release"], probes, asked["alone"])))


if __name__ == "__main__":
    main()
