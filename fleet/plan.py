"""The plan: the hosts in order, split into batches; and the parsers of `--batches` and `--max-failures`.

Pure functions. Batch sizes work as Ansible's `serial`: successive sizes, a percentage of *all* hosts rounded down but at
least 1, and the last size repeats. A plan holds every host once, and no nginx under two names.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from fleet.errors import Refused
from fleet.host import SSH_PORT, Host
from fleet.onhost.text import counted
from fleet.typed_command import UNTYPED, TypedCommand

T = TypeVar("T")
DEFAULT_BATCHES = "1,10%,50%,100%"

_COUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(%?)")


@dataclass(frozen=True, slots=True)
class Batch:
    """Hosts that are upgraded together; `number` counts from 1."""

    number: int
    hosts: tuple[Host, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All batches in order, and their sizes as the operator wrote them."""

    batches: tuple[Batch, ...]
    sizes: str = DEFAULT_BATCHES

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts, in the order of the rollout."""
        return tuple(host for batch in self.batches for host in batch.hosts)

    def batch_of(self, name: str) -> int | None:
        """The number of the batch that holds the host, or `None`."""
        return next((batch.number for batch in self.batches for host in batch.hosts if host.name == name), None)


@dataclass(frozen=True, slots=True)
class _Count:
    """A number of hosts, or a percentage of all hosts."""

    amount: Fraction
    is_percent: bool

    def of(self, hosts: int) -> int:
        """The number for this many hosts, rounded down."""
        return math.floor(self.amount * hosts / 100) if self.is_percent else int(self.amount)


def make_plan(hosts: Sequence[Host], batches: str = DEFAULT_BATCHES, typed: TypedCommand = UNTYPED) -> Plan:
    """The plan for the hosts, in their order, with batches of these sizes. Raises `Refused`.

    `typed` is the command that a refusal prints without the refused host.
    """
    if not hosts:
        raise Refused("The plan has no hosts.", "`fleet inventory` lists the selected hosts.")
    _refuse_duplicates(hosts, typed)
    return Plan(tuple(Batch(number, each) for number, each in enumerate(split(hosts, batches), 1)), batches)


def split(items: Sequence[T], batches: str) -> tuple[tuple[T, ...], ...]:
    """The items, in their order, split into batches of these sizes. Raises `Refused`."""
    sizes = _sizes(batches)
    found: list[tuple[T, ...]] = []
    begin = 0
    while begin < len(items):
        size = max(sizes[min(len(found), len(sizes) - 1)].of(len(items)), 1)
        found.append(tuple(items[begin : begin + size]))
        begin += size
    return tuple(found)


def parse_budget(text: str, hosts: int) -> int:
    """How many of this many hosts may fail: a number, or a percentage rounded down. Raises `Refused`."""
    return _budget(text).of(hosts)


def budget_in_words(text: str, hosts: int) -> str:
    """What `--max-failures` means for this many hosts, for the text of the plan."""
    count = _budget(text)
    most = count.of(hosts)
    source = f" ({text.strip()} of {hosts})" if count.is_percent and count.amount else ""
    if most >= hosts:
        return f"does not stop: all {counted(hosts)}{source} may fail"
    if most == 0:
        return f"stops at the first host that fails{source}"
    return f"stops when more than {counted(most)}{source} failed"


def duration_in_words(seconds: float) -> str:
    """The duration as an operator writes it: `90s` is `1m30s`."""
    whole = round(seconds)
    if whole != seconds or whole < 60:
        return f"{seconds:g}s"
    parts = ((whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount)


def _sizes(text: str) -> tuple[_Count, ...]:
    counts = tuple(_count(part) for part in text.split(","))
    good = [count for count in counts if count is not None and count.amount > 0]
    if len(good) != len(counts):
        remedy = "Allowed: numbers from 1 and percentages up to 100%, separated by commas, such as 1,10%,50%,100%."
        raise Refused(f"--batches {text!r} is not a valid list of sizes.", remedy)
    return tuple(good)


def _budget(text: str) -> _Count:
    count = _count(text)
    if count is None:
        remedy = "Allowed: a number of hosts from 0, or a percentage up to 100%, such as 10%."
        raise Refused(f"--max-failures {text!r} is not a valid number of hosts.", remedy)
    return count


def _count(text: str) -> _Count | None:
    """The count that the text gives: a whole number, or a percentage up to 100; `None` if it is neither."""
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        return None
    count = _Count(Fraction(found[1]), bool(found[2]))
    is_sound = count.amount <= 100 if count.is_percent else count.amount.denominator == 1 and "." not in found[1]
    return count if is_sound else None


def _refuse_duplicates(hosts: Sequence[Host], typed: TypedCommand) -> None:
    names: dict[str, Host] = {}
    instances: dict[tuple[object, ...], Host] = {}
    for host in hosts:
        if host.name in names:
            raise Refused(f"{host.name} is in the plan twice.", "List each host once.")
        names[host.name] = host
        other = instances.setdefault((*host.machine, host.layout.pid_file), host)
        if other is not host:
            pid_file = f" with the pid file {host.layout.pid_file}" if host.layout.pid_file else ""
            raise Refused(
                f"{_described(other)} and {_described(host)} are the same nginx: "
                f"{host.address} port {host.port or SSH_PORT}{pid_file}.",
                f"Set nginx_pid_file for each of them, or leave one out: {typed.without([host.name]).quoted}.",
            )


def _described(host: Host) -> str:
    return f"{host.name} ({host.where})" if host.where else host.name
