"""What `fleet lab ...` does, as plain functions: they return what is so afterwards, and print nothing."""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import Refused
from fleet.lab import lab as labs
from fleet.lab import requirements
from fleet.lab.folder import LabPaths, lab_paths, read_state
from fleet.lab.hosts.lab_host import LabHost, Power
from fleet.lab.kinds import all_kinds
from fleet.lab.lab import Lab
from fleet.lab.processes import alive

DEFAULT_NAME = "lab"
INVENTORIES = Path("inventories")


@dataclass(frozen=True, slots=True)
class HostView:
    """A host as `status` shows it. `serves` and `has_ssh`: something listens on port 80, and on port 22."""

    name: str
    address: str
    power: Power
    kind: str
    serves: bool
    has_ssh: bool


@dataclass(frozen=True, slots=True)
class LabView:
    """A lab as `status` shows it; `trouble` says what is wrong with it and what to do."""

    name: str
    subnet: str
    owner_pid: int | None
    inventory: Path
    hosts: tuple[HostView, ...]
    trouble: str | None = None


def up(
    count: int = 6,
    name: str = DEFAULT_NAME,
    wanted: Iterable[str] = (),
    *,
    show: Iterable[str] = (),
    inventories: Path = INVENTORIES,
) -> Lab:
    """A new lab, which lives until `down`. `wanted` are kinds as `--with` takes them.

    Where there is a folder `inventories`, the lab's inventory lies in it, too.
    """
    return Lab.up(name, count, spread(wanted, count), inventory=inventory_copy(name, inventories), show=show)


def inventory_copy(name: str, inventories: Path = INVENTORIES) -> Path | None:
    """Where this project has the inventory of the lab `name`; `None` when there is no folder for it."""
    if not inventories.is_dir():
        return None
    return inventories / (f"{name}.yaml" if name == DEFAULT_NAME else f"{name}.lab.yaml")


def spread(wanted: Iterable[str], count: int) -> Mapping[str, str]:
    """Which host is of which kind: `KIND=lab-003` names one, `KIND=2` or `KIND` takes the last that are still plain.

    The last, so that the first ones, which are the canaries, stay plain as long as possible.
    """
    kinds: dict[str, str] = {}
    numbers: list[tuple[str, int]] = []
    for text in wanted:
        kind, _, where = text.partition("=")
        all_kinds.kind(kind)
        if where.isdigit() or not where:
            numbers.append((kind, int(where or 1)))
        elif where in kinds:
            raise Refused(f"--with {text}: {where} is {kinds[where]} already.", "Name each host once.")
        else:
            kinds[where] = kind
    free = [name for number in range(count, 0, -1) if (name := f"lab-{number:03}") not in kinds]
    for kind, many in numbers:
        if many > len(free):
            raise Refused(
                f"--with {kind}={many}: only {len(free)} hosts are left.", f"Ask for more than {count} hosts."
            )
        for _ in range(many):
            kinds[free.pop(0)] = kind
    return kinds


def down(name: str = DEFAULT_NAME) -> bool:
    """Nothing is left of the lab. Whether there was anything."""
    return labs.down(lab_paths(name))


def status(name: str | None = None) -> tuple[LabView, ...]:
    """The lab of this name, or all of them."""
    requirements.check_root()
    wanted = labs.all_lab_paths() if name is None else (lab_paths(name),)
    return tuple(_view(paths) for paths in wanted if paths.folder.exists())


def exec_(name: str, host: str, argv: Sequence[str]) -> int:
    """Run a command on a host, with our terminal and files; its exit code."""
    return subprocess.run(find(name).host(host).enter(argv)).returncode


def cut(name: str, hosts: Iterable[str]) -> None:
    """The lines of these hosts are dead."""
    for host in _hosts(name, hosts):
        host.cut()


def heal(name: str, hosts: Iterable[str]) -> None:
    """The lines of these hosts are whole, and as slow as they were."""
    for host in _hosts(name, hosts):
        host.heal()


def slow(name: str, hosts: Iterable[str], rate: str | None = None, loss_percent: float = 0.0) -> None:
    """The lines of these hosts have this rate and lose this share, each way; with neither they are as they were."""
    for host in _hosts(name, hosts):
        host.slow(rate, loss_percent)


def kill(name: str, hosts: Iterable[str]) -> None:
    """These hosts are off, as if their plugs were pulled."""
    for host in _hosts(name, hosts):
        host.kill()


def boot(name: str, hosts: Iterable[str]) -> None:
    """These hosts are on, from their disks."""
    for host in _hosts(name, hosts):
        host.boot()


def find(name: str) -> Lab:
    """The lab of this name. Raises `Refused` when it isn't up."""
    requirements.check_root()
    found = Lab.find(name)
    if found is None:
        raise Refused(f"lab {name}: it isn't up.", f"Bring it up: fleet lab up --name {name}")
    return found


def _hosts(name: str, wanted: Iterable[str]) -> tuple[LabHost, ...]:
    lab = find(name)
    return tuple(lab.host(host) for host in wanted)


def _view(paths: LabPaths) -> LabView:
    state = read_state(paths)
    lab = Lab.find(paths.name, paths.root)
    trouble = None
    if lab is None:
        trouble = f"It is being brought up, or was left half-way. To clear it: fleet lab down --name {paths.name}"
    elif state is not None and state.owner is not None and not alive(state.owner):
        trouble = f"Its owner is gone. To clear it: fleet lab down --name {paths.name}"
    hosts = lab.hosts if lab is not None else ()
    return LabView(
        name=paths.name,
        subnet=state.subnet if state is not None else "",
        owner_pid=state.owner.pid if state is not None and state.owner is not None else None,
        inventory=paths.inventory,
        hosts=tuple(_host_view(host) for host in hosts),
        trouble=trouble,
    )


def _host_view(host: LabHost) -> HostView:
    power = host.power
    on = power is not Power.OFF
    return HostView(
        name=host.name,
        address=host.address,
        power=power,
        kind=host.kind or "plain",
        serves=on and host.listens(80),
        has_ssh=on and host.listens(22),
    )
