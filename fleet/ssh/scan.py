"""The host keys that hosts and their bastions present, without a login at a host: for `fleet trust`.

A scan runs a real key exchange over the same path as a visit (bastions, ProxyCommand), which ssh-keyscan can't. A host
behind a bastion needs a login at the bastion, so the bastion's key must be known first: hosts behind an unknown one wait.
The scan is strict whatever ssh_config says: it accepts no key, because the operator is about to be asked.

One key of a host is scanned, the one that a visit would meet (a known type first, then ed25519). Each further key would
cost a connection and a comparison, and neither fleet nor ssh requests another type than the known one.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from fleet.events import Alarm
from fleet.host import Host
from fleet.ssh.hostkeys.acceptance import UNKNOWN, PresentedKey, known_host_for
from fleet.ssh.hostkeys.added_keys import store_of
from fleet.ssh.link_errors import LinkError
from fleet.ssh.openssh_config import Settings, resolve
from fleet.ssh.transport.bastion import close_bastions
from fleet.ssh.transport.connection import Link
from fleet.task import Connecting, Deadlines, HostKeys

Place = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ScannedAddress:
    """The result for one address. `hosts`: its names in the inventory, none for a bastion. `hosts_behind`: the hosts behind it.

    Without `failure` its key is known. `settings` is `None` when ssh_config could not be resolved.
    """

    settings: Settings | None
    hosts: tuple[str, ...]
    hosts_behind: tuple[str, ...] = ()
    key: PresentedKey | None = None
    failure: LinkError | None = None

    @property
    def is_known(self) -> bool:
        return self.failure is None

    @property
    def is_new(self) -> bool:
        """Whether its key may be accepted."""
        return self.key is not None and self.failure is not None and self.failure.reason == UNKNOWN

    @property
    def is_alarming(self) -> bool:
        """Whether it presents a key that must not be accepted (changed or revoked, for instance)."""
        return self.failure is not None and Alarm.of(self.failure.reason) is not None

    @property
    def name(self) -> str:
        """Its name in known_hosts, or in the inventory."""
        return self.settings.key_name if self.settings else ", ".join(self.hosts)


def scan_host_keys(
    hosts: Sequence[Host], connecting: Connecting, deadlines: Deadlines, parallel: int
) -> tuple[ScannedAddress, ...]:
    """The keys of all hosts and their bastions: each address once, a bastion before the hosts behind it."""
    strict = replace(connecting, host_keys=HostKeys.STRICT)
    scanning = _Scan(deadlines, ThreadPoolExecutor(parallel, thread_name_prefix="fleet-scan_host_keys"))
    try:
        return scanning.run(hosts, strict)
    finally:
        scanning.close()


class _Scan:
    """One scan under way, so that it can be interrupted."""

    def __init__(self, deadlines: Deadlines, executor: Executor) -> None:
        self._deadlines = deadlines
        self._executor = executor
        self._links: list[Link] = []

    def run(self, hosts: Sequence[Host], connecting: Connecting) -> tuple[ScannedAddress, ...]:
        resolved = list(self._executor.map(partial(_resolved, connecting), hosts))
        unresolved = []
        places: dict[Place, ScannedAddress] = {}
        for host, settings in zip(hosts, resolved, strict=True):
            if isinstance(settings, LinkError):
                unresolved.append(ScannedAddress(None, (host.name,), failure=settings))
                continue
            for hop in _way(settings):
                found = places.get(_place(hop), ScannedAddress(hop, ()))
                at_end = hop is settings
                places[_place(hop)] = replace(
                    found,
                    hosts=(*found.hosts, host.name) if at_end else found.hosts,
                    hosts_behind=found.hosts_behind if at_end else (*found.hosts_behind, host.name),
                )
        for hops in range(1 + max((_depth(found) for found in places.values()), default=-1)):
            layer = {place: found for place, found in places.items() if _depth(found) == hops}
            jumps = [_jump(found, places) for found in layer.values()]
            places.update(zip(layer, self._executor.map(self._scan_key, layer.values(), jumps), strict=True))
        return (*_without_ambiguous(list(places.values())), *unresolved)

    def close(self) -> None:
        """Closes every connection, and ends every wait."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for link in self._links:
            link.close()
        close_bastions()

    def _scan_key(self, found: ScannedAddress, jump: ScannedAddress | None) -> ScannedAddress:
        """The same with its key, or with the error when the bastion before it can't be used yet."""
        settings = found.settings
        if settings is None:
            return found
        if jump is not None and not jump.is_known:
            return replace(found, failure=_behind(jump))
        host = Host(name=settings.hostname, address=settings.hostname)
        link = Link(host, self._deadlines, settings=settings)
        self._links.append(link)
        try:
            key = link.presented_key()
            return replace(found, key=key, failure=known_host_for(settings).rejection(key, time.time()))
        except LinkError as failure:
            return replace(found, failure=failure)
        finally:
            link.close()


def _without_ambiguous(found: Sequence[ScannedAddress]) -> list[ScannedAddress]:
    """The same, with an error for new keys that differ under one name in one file: each host could pass for the other.

    One HostKeyAlias for several machines, or one address in two networks, leads to this.
    """
    places = [_new_place(each) for each in found]
    shown = {(place, each.key.blob) for place, each in zip(places, found, strict=True) if place and each.key}
    keys = Counter(place for place, _ in shown)
    return [
        replace(each, failure=_ambiguous(each)) if place is not None and keys[place] > 1 else each
        for place, each in zip(places, found, strict=True)
    ]


def _new_place(found: ScannedAddress) -> tuple[str, str | None] | None:
    """The name and the file for a key that may be accepted; `None` for any other."""
    return (found.name, store_of(found.settings)) if found.is_new and found.settings is not None else None


def _ambiguous(found: ScannedAddress) -> LinkError:
    key = f" ({found.key.description})" if found.key is not None else ""
    return LinkError(
        "host_key_ambiguous",
        f"Its key{key} is not known, and another host presents a different key under the same name, {found.name}.",
        "Give each of them its own HostKeyAlias in ssh_config, then run fleet trust.",
    )


def _resolved(connecting: Connecting, host: Host) -> Settings | LinkError:
    try:
        return resolve(host, connecting)
    except LinkError as failure:
        return failure


def _place(settings: Settings) -> Place:
    """What identifies the key at the end of a connection. The login's user does not count."""
    way = settings.jump and _place(settings.jump)
    return settings.hostname, settings.port, settings.key_name, settings.known_hosts, settings.proxy_command, way


def _way(settings: Settings) -> list[Settings]:
    """The bastions before it, the first hop first, and it."""
    found = [settings]
    while found[0].jump is not None:
        found.insert(0, found[0].jump)
    return found


def _depth(found: ScannedAddress) -> int:
    return len(_way(found.settings)) - 1 if found.settings else 0


def _jump(found: ScannedAddress, places: Mapping[Place, ScannedAddress]) -> ScannedAddress | None:
    jump = found.settings.jump if found.settings else None
    return None if jump is None else places[_place(jump)]


def _behind(jump: ScannedAddress) -> LinkError:
    remedy = (
        "Accept the bastion's key, then run fleet trust again." if jump.is_new else f"See the message for {jump.name}."
    )
    return LinkError("behind_bastion", f"It was not scanned: its bastion {jump.name} can't be used.", remedy)
