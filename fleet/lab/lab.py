"""Bring a lab up and take it down: real sshd and nginx on pretend hosts of this machine, started in seconds.

A lab touches only what carries its own name, and `down` finds all of that by the name, also after an `up` that was
killed. A lab with an owner process (a test run) is removed by the next run once that process has ended. There is no
supervisor: a host is its PID 1, and a lab is a folder.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from fleet.errors import LockHeld, Refused
from fleet.lab import inventory_file, network, requirements
from fleet.lab.folder import (
    HostEntry,
    Init,
    LabPaths,
    Owner,
    Stage,
    State,
    boot_id,
    lab_paths,
    locked,
    read_state,
    subnets_locked,
    write_state,
)
from fleet.lab.hosts import cgroup, disk, dpkg, nginx, sshd, systemd
from fleet.lab.hosts.lab_host import LabHost, plug_in
from fleet.lab.kinds import all_kinds
from fleet.lab.kinds.kind import Kind, check, prepare_disk
from fleet.lab.processes import alive, end, processes_of, run, wait_until

T = TypeVar("T")
AT_ONCE = 16
INSTALL_S = 120.0
LEAST_BYTES, HOST_BYTES = 1 << 30, 64 << 20
"""Disk per host; the tmpfs takes memory only for what is written."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up."""

    paths: LabPaths
    hosts: tuple[LabHost, ...]

    @classmethod
    def up(
        cls,
        name: str = "lab",
        count: int = 6,
        kinds: Mapping[str, str] | None = None,
        state: Path | None = None,
        *,
        owner: Owner | None = None,
        inventory: Path | None = None,
        show: Iterable[str] = (),
    ) -> "Lab":
        """Start a lab of `count` hosts, `lab-001` and on; `kinds` gives the kind by host name. Returns once all are ready.

        It stays up until `down`. With an `owner` it may be removed as soon as that process has ended. `state` is the
        folder that holds the folders of labs; a copy of the inventory is written to `inventory`; the hosts see the
        folders `show` of this machine, read-only. Raises `Refused` before anything is changed.
        """
        paths = lab_paths(name, state)
        wanted = _plan(count, kinds or {})
        requirements.check()
        _check_paths(paths, inventory, show)
        with locked(paths, "bring up"):
            _clear_way(paths)
            began = State(
                Stage.BUILDING,
                boot_id(),
                owner=owner,
                show=tuple(show),
                inventory_copy=str(inventory.absolute()) if inventory else None,
            )
            try:
                return cls(paths, _build(paths, began, wanted))
            except BaseException:
                _clear(paths)
                raise

    @classmethod
    def find(cls, name: str = "lab", state: Path | None = None) -> "Lab | None":
        """The lab of this name; `None` when there is none, or when it is not completely up."""
        paths = lab_paths(name, state)
        found = read_state(paths)
        if found is None or found.stage is not Stage.UP or found.boot_id != boot_id():
            return None
        return cls(paths, _hosts(paths, found))

    @property
    def name(self) -> str:
        return self.paths.name

    @property
    def inventory(self) -> Path:
        return self.paths.inventory

    @property
    def private_key(self) -> Path:
        return self.paths.private_key

    @property
    def known_hosts(self) -> Path:
        return self.paths.known_hosts

    @property
    def ssh_config(self) -> Path:
        return self.paths.ssh_config

    def host(self, name: str) -> LabHost:
        """The host of this name. Raises `Refused`, which lists the names."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise Refused(
            f"Lab {self.name} has no host {name!r}.",
            f"Its hosts are {self.hosts[0].name} to {self.hosts[-1].name}.",
        )

    def down(self) -> None:
        """Remove the lab completely."""
        down(self.paths)


def down(paths: LabPaths) -> bool:
    """Remove the lab completely. Returns whether there was anything of it."""
    requirements.check_root()
    with locked(paths, "bring down"):
        return _clear(paths)


def all_lab_paths(root: Path | None = None) -> tuple[LabPaths, ...]:
    """The paths of every lab that has a folder, whatever its state."""
    top = lab_paths("lab", root).root
    names = sorted(path.name for path in top.iterdir() if path.is_dir()) if top.is_dir() else []
    return tuple(lab_paths(name, root) for name in names if not name.startswith("."))


def clear_abandoned(root: Path | None = None) -> tuple[str, ...]:
    """Remove the labs whose owner process has ended. Returns their names."""
    cleared = []
    for paths in all_lab_paths(root):
        with suppress(LockHeld), locked(paths, "clear"):
            found = read_state(paths)
            if found is not None and found.owner is not None and not alive(found.owner):
                _clear(paths)
                cleared.append(paths.name)
    return tuple(cleared)


def _plan(count: int, wanted: Mapping[str, str]) -> dict[str, Kind]:
    if not 1 <= count <= network.MOST_HOSTS:
        raise Refused(f"A lab can't have {count} hosts.", f"Ask for 1 to {network.MOST_HOSTS}.")
    names = [f"lab-{number:03}" for number in range(1, count + 1)]
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise Refused(f"The lab has no host {', '.join(unknown)}.", f"Its hosts are {names[0]} to {names[-1]}.")
    plan = {name: all_kinds.kind(wanted.get(name)) for name in names}
    for kind in set(plan.values()):
        check(kind)
    systemd.check_watches(sum(kind.init is not Init.RC for kind in plan.values()))
    return plan


def _check_paths(paths: LabPaths, inventory: Path | None, show: Iterable[str]) -> None:
    for folder in show:
        if not (folder.startswith("/") and Path(folder).is_dir()):
            raise Refused(
                f"{folder} can't be shown to the hosts: it is not a folder.", "Give the absolute path of a folder."
            )
    if inventory is not None and inventory.exists() and not inventory_file.is_ours(paths, inventory):
        raise Refused(f"{inventory} exists, and this lab did not write it.", "Move it away, or choose another --name.")


def _clear_way(paths: LabPaths) -> None:
    found = read_state(paths)
    if found is not None and found.stage is Stage.UP and found.boot_id == boot_id():
        if found.owner is None:
            raise Refused(f"Lab {paths.name} is up already.", f"Stop it first: fleet lab down --name {paths.name}")
        if alive(found.owner):
            raise Refused(
                f"Lab {paths.name} is up, and its owner, process {found.owner.pid}, still runs.",
                "End that process, or choose another --name.",
            )
    # Otherwise it is left over: from before a reboot, from an `up` that failed, or from an owner that has ended.
    _clear(paths)


def _build(paths: LabPaths, began: State, wanted: Mapping[str, Kind]) -> tuple[LabHost, ...]:
    write_state(paths, began)
    paths.disks.mkdir()
    options = f"mode=711,size={max(LEAST_BYTES, len(wanted) * HOST_BYTES)}"
    run(["mount", "-t", "tmpfs", "-o", options, paths.prefix, str(paths.disks)])
    disk.make_template(paths, sshd.make_key(paths.private_key, f"lab {paths.name}"))
    layers = {layer for kind in wanted.values() for layer in kind.layers}
    for module in (systemd, dpkg):
        if module.LAYER in layers:
            module.make_layer(paths)
    with subnets_locked():
        subnet = network.choose_subnet(paths)
        entries = tuple(
            HostEntry(name, number, network.address(subnet, number), kind.name, kind.init, kind.layers)
            for number, (name, kind) in enumerate(wanted.items(), 1)
        )
        state = replace(began, subnet=str(subnet), hosts=entries)
        write_state(paths, state)
        network.make_bridge(paths, subnet)
    hosts = _hosts(paths, state)
    keys = dict(_each(hosts, lambda host: (host.name, prepare_disk(paths, host.entry, wanted[host.name]))))
    _each(hosts, LabHost.power_on)
    plug_in(hosts)
    _each(hosts, LabHost.wait_ready)
    _each(hosts, lambda host: _finish(host, wanted[host.name]))
    users = {name: kind.user for name, kind in wanted.items()}
    sshd.write_client_files(paths, keys, entries, users)
    variables = {name: {**_layout(kind), **dict(kind.variables), **_user(kind)} for name, kind in wanted.items()}
    text = inventory_file.text(paths, entries, variables)
    paths.inventory.write_text(text)
    if state.inventory_copy:
        Path(state.inventory_copy).write_text(text)
    sshd.hand_over(paths)
    write_state(paths, replace(state, stage=Stage.UP))
    return hosts


def _finish(host: LabHost, kind: Kind) -> None:
    """Install the kind's packages, and run its shell, on a host that runs."""
    if kind.installed:
        host.sh(dpkg.INSTALL, timeout_s=INSTALL_S)
    if kind.after:
        host.sh(kind.after.replace(cgroup.GROUP, host.paths.link(host.entry.number)))


def _clear(paths: LabPaths) -> bool:
    """Remove everything of the lab. Returns whether there was anything."""
    found = paths.folder.exists() or bool(network.links(paths) or _mounts(paths))
    state = read_state(paths)
    hosts = _hosts(paths, state) if state is not None else ()
    end(process for process in map(LabHost.first_process, hosts) if process is not None)
    _end_processes(paths)
    for link in network.links(paths):
        network.remove(link)
    cgroup.remove(paths)
    for folder in _mounts(paths):
        if not wait_until(partial(_unmounted, folder), within_s=10):
            run(["umount", "--lazy", folder])
    if state is not None and state.inventory_copy and inventory_file.is_ours(paths, Path(state.inventory_copy)):
        Path(state.inventory_copy).unlink()
    if paths.folder.exists():
        shutil.rmtree(paths.folder)
    return found


def _end_processes(paths: LabPaths) -> None:
    """Kill every process of the lab, also those that its state file doesn't have.

    One empty list is not enough: a `boot.sh` that ended between the listing and the look at it has left a PID 1 that
    was not in the list. It is in the next list, and a PID 1 has no successor.
    """
    empty_looks = 0
    while empty_looks < 2:
        left = processes_of(paths)
        end(left)
        empty_looks = 0 if left else empty_looks + 1


def _mounts(paths: LabPaths) -> list[str]:
    """Where the lab's tmpfs is mounted, the newest first. Found by its name, because a folder may have been moved."""
    fields = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [field[1] for field in reversed(fields) if field[0] == paths.prefix]


def _unmounted(folder: str) -> bool:
    return subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode == 0


def _hosts(paths: LabPaths, state: State) -> tuple[LabHost, ...]:
    return tuple(LabHost(paths, entry, state.subnet, state.show) for entry in state.hosts)


def _each(hosts: Iterable[LabHost], act: Callable[[LabHost], T]) -> list[T]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, hosts))


def _layout(kind: Kind) -> dict[str, str]:
    if kind.layout is nginx.OWN:
        return {}
    return {"nginx_binary": kind.layout.program, "nginx_pid_file": kind.layout.pid_file}


def _user(kind: Kind) -> dict[str, str]:
    return {} if kind.user == "root" else {"ansible_user": kind.user}
