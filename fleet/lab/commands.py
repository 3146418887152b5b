"""The commands of `fleet lab` as plain functions: they do the work and print nothing."""

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
    """A host as `status` shows it. `serves`: something listens on port 80; `has_ssh`: on port 22."""

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
    """Start a lab that stays up until `down`. `wanted` are kinds as `--with` takes them.

    If there is a folder `inventories`, a copy of the lab's inventory is written to it.
    """
    return Lab.up(name, count, spread(wanted, count), inventory=inventory_copy(name, inventories), show=show)


def inventory_copy(name: str, inventories: Path = INVENTORIES) -> Path | None:
    """Where the copy of the inventory of lab `name` lies; `None` without the folder `inventories`."""
    if not inventories.is_dir():
        return None
    return inventories / (f"{name}.yaml" if name == DEFAULT_NAME else f"{name}.lab.yaml")


def spread(wanted: Iterable[str], count: int) -> Mapping[str, str]:
    """The kind by host name: `KIND=lab-003` names a host, `KIND=2` or `KIND` takes the last hosts that are still plain.

    The last ones, so that the first hosts, which are the canaries, stay plain as long as possible. `KIND` alone of a kind
    that is `for_all` takes every host that the others leave.
    """
    kinds: dict[str, str] = {}
    numbers: list[tuple[str, int]] = []
    rest: str | None = None
    for text in wanted:
        kind, _, where = text.partition("=")
        if all_kinds.kind(kind).for_all and not where:
            rest = kind
        elif where.isdigit() or not where:
            numbers.append((kind, int(where or 1)))
        elif where in kinds:
            raise Refused(f"--with {text}: {where} already has the kind {kinds[where]}.", "Name each host once.")
        else:
            kinds[where] = kind
    free = [name for number in range(count, 0, -1) if (name := f"lab-{number:03}") not in kinds]
    for kind, many in numbers:
        if many > len(free):
            raise Refused(
                f"--with {kind}={many}: only {len(free)} hosts are left for it.", f"Ask for more than {count} hosts."
            )
        for _ in range(many):
            kinds[free.pop(0)] = kind
    if rest is not None:
        kinds.update(dict.fromkeys(free, rest))
    return kinds


def down(name: str = DEFAULT_NAME) -> bool:
    """Remove the lab completely. Returns whether there was one."""
    return labs.down(lab_paths(name))


def status(name: str | None = None) -> tuple[LabView, ...]:
    """The lab of this name; all labs without a name."""
    requirements.check_root()
    wanted = labs.all_lab_paths() if name is None else (lab_paths(name),)
    return tuple(_view(paths) for paths in wanted if paths.folder.exists())


def exec_(name: str, host: str, argv: Sequence[str]) -> int:
    """Run a command on a host, on this terminal; returns its exit code."""
    return subprocess.run(find(name).host(host).enter(argv)).returncode


def cut(name: str, hosts: Iterable[str]) -> None:
    """Cut these hosts off the network."""
    for host in _hosts(name, hosts):
        host.cut()


def heal(name: str, hosts: Iterable[str]) -> None:
    """Connect these hosts to the network again; a `slow` network stays slow."""
    for host in _hosts(name, hosts):
        host.heal()


def slow(name: str, hosts: Iterable[str], rate: str | None = None, loss_percent: float = 0.0) -> None:
    """Limit the hosts' network to this rate and lose this share of packets, each way; with neither, undo both."""
    for host in _hosts(name, hosts):
        host.slow(rate, loss_percent)


def kill(name: str, hosts: Iterable[str]) -> None:
    """Power these hosts off at once."""
    for host in _hosts(name, hosts):
        host.kill()


def boot(name: str, hosts: Iterable[str]) -> None:
    """Power these hosts on, from their disks."""
    for host in _hosts(name, hosts):
        host.boot()


def find(name: str) -> Lab:
    """The lab of this name. Raises `Refused` when it is not up."""
    requirements.check_root()
    found = Lab.find(name)
    if found is None:
        raise Refused(f"Lab {name} is not up.", f"Start it: fleet lab up --name {name}")
    return found


def _hosts(name: str, wanted: Iterable[str]) -> tuple[LabHost, ...]:
    lab = find(name)
    return tuple(lab.host(host) for host in wanted)


def _view(paths: LabPaths) -> LabView:
    state = read_state(paths)
    lab = Lab.find(paths.name, paths.root)
    trouble = None
    if lab is None:
        trouble = f"It is starting, or its start failed. To remove it: fleet lab down --name {paths.name}"
    elif state is not None and state.owner is not None and not alive(state.owner):
        trouble = f"Its owner process has ended. To remove it: fleet lab down --name {paths.name}"
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
