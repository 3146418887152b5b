"""The sockets that the old master holds, compared with those that the new release is seen to open in the rehearsal.

The new master closes an inherited socket that its configuration does not name; the socket stays open in the old master,
so clients connect and hang. nginx even deletes a UNIX socket that is not named (docs/nginx-facts.md, section 8). Held
sockets come from /proc, here as there, so names, wildcards and addresses that are on another node need no rules.
"""

from collections import Counter
from typing import Dict, List, Optional, Tuple

from fleet.onhost.nginx.config_files import ConfigFiles, Seen
from fleet.onhost.observation import Master
from fleet.onhost.preflight.differences import came_up
from fleet.onhost.preflight.subject import Subject
from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import finding
from fleet.onhost.rehearsal.evidence import Rehearsal
from fleet.onhost.system.machine import Machine

Address = Tuple[str, str]
"""The kind of a listening socket and its address, as in `system.sockets.Listener`."""
QUIC = ("quic", "http3")  # The parameter of `listen`; the second name was that of early builds.


def compared_listeners(subject: Subject, rehearsal: Rehearsal) -> List[Finding]:
    """The listeners that the new release would lose, could not open, or would add; nothing if it did not come up."""
    new = came_up(rehearsal.new)
    if new is None:
        return []
    has = held(subject.machine, subject.old)
    opened = {(one.kind, one.address): one.sockets for one in new.listeners}
    found = []
    missing = sorted(_in_words(one) for one in has if one not in opened)
    if missing:
        found.append(finding("listener_missing", listeners=", ".join(missing)))
    if has:
        found += [_added(subject, one) for one in sorted(opened) if one not in has]
    for one, count in sorted(has.items()):
        if opened.get(one, count) < count:
            found.append(finding("fewer_workers", listener=_in_words(one), held=count, opened=opened[one]))
    return found


def held(machine: Machine, master: Master) -> Dict[Address, int]:
    """The addresses that the master listens on, each with its number of sockets."""
    every = machine.listeners(master.pid)
    return dict(Counter((every[inode].kind, every[inode].address) for inode in master.listeners if inode in every))


def _in_words(address: Address) -> str:
    kind, place = address
    return "unix:" + place if kind == "unix" else place + (" udp" if kind.startswith("udp") else "")


def _added(subject: Subject, address: Address) -> Finding:
    why = _unavailable(subject, address)
    if why:
        return finding("listener_busy", listener=_in_words(address), why=why)
    return finding("listener_added", listener=_in_words(address))


def _unavailable(subject: Subject, address: Address) -> Optional[str]:
    """Why the master can't open this address on the host, or `None`: in the rehearsal nothing else holds one."""
    kind, place = address
    if kind == "unix":
        exists = subject.machine.exists(Seen(subject.machine, subject.old.pid).here(place))
        return "that path exists already, and nginx does not reuse it" if exists else None
    host, _, port = place.rpartition(":")
    return subject.machine.bind_error(kind, host.strip("[]"), int(port), subject.old.pid)


def broken_quic(config: Optional[ConfigFiles]) -> List[Finding]:
    """Whether HTTP/3 is on without `quic_bpf`, by the text of the files: a socket does not show what it is for."""
    if config is None or "on" in config.values("quic_bpf"):
        return []
    words = [one.rstrip(";").split() for one in config.statements("listen")]
    places = sorted({one[1] for one in words if len(one) > 1 and set(QUIC) & set(one[2:])})
    return [finding("quic", listener=", ".join(places))] if places else []
