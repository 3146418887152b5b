"""The lab: real sshd and real nginx on pretend hosts of this machine, made in seconds and gone without a trace.

What is promised: a lab touches only what carries its own name; `down` finds all of it by that name, whatever became of
the `up` that made it; a lab that is bound to a process (a test run) is cleared by the next one once that process is
gone. There is no supervisor: a host is its PID 1, and the lab is a folder.
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
    Owner,
    Place,
    Stage,
    State,
    boot_id,
    locked,
    place,
    read_state,
    subnets_locked,
    write_state,
)
from fleet.lab.hosts import cgroup, disk, sshd
from fleet.lab.hosts.lab_host import LabHost, plug_in
from fleet.lab.kinds import all_kinds
from fleet.lab.kinds.kind import Kind, check, furnish
from fleet.lab.processes import alive, end, inhabitants, run, wait_until

T = TypeVar("T")
AT_ONCE = 16
LEAST_BYTES, HOST_BYTES = 1 << 30, 64 << 20
"""Disk per host; the tmpfs takes memory only for what is written."""


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up."""

    where: Place
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
        """A lab of `count` hosts `lab-001`.., each of the kind that `kinds` says, up and answering.

        It lives until `down`, or, with an `owner`, at the latest until another lab is made after that process is gone.
        `state` is the folder under which labs keep theirs; `inventory` is where to write a copy of the inventory; `show`
        are folders of the machine that the hosts see too, read-only. Raises `Refused` before anything is made.
        """
        where = place(name, state)
        wanted = _plan(count, kinds or {})
        requirements.check()
        _check_paths(where, inventory, show)
        with locked(where, "bring up"):
            _clear_way(where)
            began = State(
                Stage.BUILDING,
                boot_id(),
                owner=owner,
                show=tuple(show),
                inventory_copy=str(inventory.absolute()) if inventory else None,
            )
            try:
                return cls(where, _build(where, began, wanted))
            except BaseException:
                _clear(where)
                raise

    @classmethod
    def find(cls, name: str = "lab", state: Path | None = None) -> "Lab | None":
        """The lab of this name, or `None` when there is none or it isn't wholly up."""
        where = place(name, state)
        found = read_state(where)
        if found is None or found.stage is not Stage.UP or found.boot_id != boot_id():
            return None
        return cls(where, _hosts(where, found))

    @property
    def name(self) -> str:
        return self.where.name

    @property
    def inventory(self) -> Path:
        return self.where.inventory

    @property
    def private_key(self) -> Path:
        return self.where.private_key

    @property
    def known_hosts(self) -> Path:
        return self.where.known_hosts

    @property
    def ssh_config(self) -> Path:
        return self.where.ssh_config

    def host(self, name: str) -> LabHost:
        """The host of this name. Raises `Refused` with the names there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise Refused(
            f"lab {self.name}: no host is called {name!r}.",
            f"Its hosts: {self.hosts[0].name} .. {self.hosts[-1].name}.",
        )

    def down(self) -> None:
        """Nothing is left of the lab."""
        down(self.where)


def down(where: Place) -> bool:
    """Nothing is left of the lab of this place. Whether there was anything."""
    requirements.check_root()
    with locked(where, "bring down"):
        return _clear(where)


def places(root: Path | None = None) -> tuple[Place, ...]:
    """The labs that have a folder, whatever state they are in."""
    top = place("lab", root).root
    names = sorted(path.name for path in top.iterdir() if path.is_dir()) if top.is_dir() else []
    return tuple(place(name, root) for name in names if not name.startswith("."))


def clear_abandoned(root: Path | None = None) -> tuple[str, ...]:
    """Labs that were bound to a process which is gone are cleared away. Their names."""
    cleared = []
    for where in places(root):
        with suppress(LockHeld), locked(where, "clear"):
            found = read_state(where)
            if found is not None and found.owner is not None and not alive(found.owner):
                _clear(where)
                cleared.append(where.name)
    return tuple(cleared)


def _plan(count: int, wanted: Mapping[str, str]) -> dict[str, Kind]:
    if not 1 <= count <= network.MOST_HOSTS:
        raise Refused(f"lab: {count} hosts.", f"Ask for 1 to {network.MOST_HOSTS}.")
    names = [f"lab-{number:03}" for number in range(1, count + 1)]
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise Refused(f"lab: {', '.join(unknown)}: not a host of this lab.", f"Its hosts: {names[0]} .. {names[-1]}.")
    plan = {name: all_kinds.kind(wanted.get(name)) for name in names}
    for kind in set(plan.values()):
        check(kind)
    return plan


def _check_paths(where: Place, inventory: Path | None, show: Iterable[str]) -> None:
    for folder in show:
        if not (folder.startswith("/") and Path(folder).is_dir()):
            raise Refused(
                f"lab: {folder}: not a folder that hosts could be shown.", "Give the absolute path of a folder."
            )
    if inventory is not None and inventory.exists() and not inventory_file.is_ours(where, inventory):
        raise Refused(
            f"{inventory}: there is an inventory that this lab did not write.",
            "Move it away, or choose another --name.",
        )


def _clear_way(where: Place) -> None:
    found = read_state(where)
    if found is not None and found.stage is Stage.UP and found.boot_id == boot_id():
        if found.owner is None:
            raise Refused(f"lab {where.name}: it is up.", f"Bring it down first: fleet lab down --name {where.name}")
        if alive(found.owner):
            raise Refused(
                f"lab {where.name}: it is up and belongs to process {found.owner.pid}, which lives.",
                "End that process, or choose another --name.",
            )
    # Otherwise it is left over: from before a reboot, from an `up` that died, or from a process that is gone.
    _clear(where)


def _build(where: Place, began: State, wanted: Mapping[str, Kind]) -> tuple[LabHost, ...]:
    write_state(where, began)
    where.disks.mkdir()
    run(
        [
            "mount",
            "-t",
            "tmpfs",
            "-o",
            f"mode=711,size={max(1 << 30, len(wanted) * HOST_BYTES)}",
            where.prefix,
            str(where.disks),
        ]
    )
    disk.make_template(where, sshd.make_key(where.private_key, f"lab {where.name}"))
    with subnets_locked():
        subnet = network.choose_subnet(where)
        entries = tuple(
            HostEntry(name, number, network.address(subnet, number), kind.name)
            for number, (name, kind) in enumerate(wanted.items(), 1)
        )
        state = replace(began, subnet=str(subnet), hosts=entries)
        write_state(where, state)
        network.make_bridge(where, subnet)
    hosts = _hosts(where, state)
    keys = dict(_each(hosts, lambda host: (host.name, furnish(where, host.entry, wanted[host.name]))))
    _each(hosts, LabHost.power_on)
    plug_in(hosts)
    _each(hosts, LabHost.wait_ready)
    _each(hosts, lambda host: _finish(host, wanted[host.name]))
    users = {name: kind.user for name, kind in wanted.items()}
    sshd.write_client_files(where, keys, entries, users)
    variables = {name: {**dict(kind.variables), **_user(kind)} for name, kind in wanted.items()}
    text = inventory_file.text(where, entries, variables)
    where.inventory.write_text(text)
    if state.inventory_copy:
        Path(state.inventory_copy).write_text(text)
    sshd.hand_over(where)
    write_state(where, replace(state, stage=Stage.UP))
    return hosts


def _finish(host: LabHost, kind: Kind) -> None:
    """What can only be done to a host that runs has been done."""
    if kind.after:
        host.sh(kind.after.replace(cgroup.GROUP, host.where.link(host.entry.number)))


def _clear(where: Place) -> bool:
    """Nothing of the lab is left. Whether there was anything."""
    found = where.folder.exists() or bool(network.links(where) or _mounts(where))
    state = read_state(where)
    hosts = _hosts(where, state) if state is not None else ()
    end(process for process in map(LabHost.first_process, hosts) if process is not None)
    _end_inhabitants(where)
    for link in network.links(where):
        network.remove(link)
    cgroup.remove(where)
    for folder in _mounts(where):
        if not wait_until(partial(_unmounted, folder), within_s=10):
            run(["umount", "--lazy", folder])
    if state is not None and state.inventory_copy and inventory_file.is_ours(where, Path(state.inventory_copy)):
        Path(state.inventory_copy).unlink()
    if where.folder.exists():
        shutil.rmtree(where.folder)
    return found


def _end_inhabitants(where: Place) -> None:
    """Nobody lives in the lab, written down or not.

    One empty look is not enough: a `boot.sh` that ended between the listing and our question about it has left a PID 1
    that was not in the list. It is in the next one, and PID 1s don't hand over.
    """
    empty_looks = 0
    while empty_looks < 2:
        left = inhabitants(where)
        end(left)
        empty_looks = 0 if left else empty_looks + 1


def _mounts(where: Place) -> list[str]:
    """Where the lab's tmpfs is mounted, the newest first: found by its name, since a folder can have been moved."""
    fields = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [field[1] for field in reversed(fields) if field[0] == where.prefix]


def _unmounted(folder: str) -> bool:
    return subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode == 0


def _hosts(where: Place, state: State) -> tuple[LabHost, ...]:
    return tuple(LabHost(where, entry, state.subnet, state.show) for entry in state.hosts)


def _each(hosts: Iterable[LabHost], act: Callable[[LabHost], T]) -> list[T]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(act, hosts))


def _user(kind: Kind) -> dict[str, str]:
    return {} if kind.user == "root" else {"ansible_user": kind.user}
