"""The outsider of the unit table: what he types, whom he kills, and how a host is made plain again after him."""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import PACKAGED, SERVES
from fleet.lab.kinds.kind import until
from fleet.lab.releases.build import make_release
from tests.support.lab.inside import Inside, Process
from tests.support.lab.operator import sha256
from tests.support.lab.packages import NGINX, offer, repack, send, unrelated
from tests.support.lab.unit_cells import BY_HAND, WITH_PACKAGES, Action
from tests.support.lab.unit_shown import Main

KEPT = "/root/table"
"""Where a host of the table keeps what it was at first."""
KEEP = f"mkdir -p {KEPT}; cp -p {PACKAGED.program} {KEPT}/program; cp -p {PACKAGED.config} {KEPT}/config"
LOG = "/run/table.log"
TYPED: Mapping[Action, str] = {
    Action.RELOAD: "systemctl reload nginx",
    Action.BAD_RELOAD: f"echo 'nonsense;' >>{PACKAGED.config}; systemctl reload nginx; code=$?; "
    f"cp -p {KEPT}/config {PACKAGED.config}; exit $code",
    Action.STOP: "systemctl stop nginx",
    Action.RESTART: "systemctl restart nginx",
    Action.TRY_RESTART: "systemctl try-restart nginx",
    Action.STOP_START: "systemctl stop nginx; code=$?; systemctl start nginx && exit $code",
    Action.DAEMON_RELOAD: "systemctl daemon-reload",
    Action.DAEMON_REEXEC: "systemctl daemon-reexec",
    Action.NEEDRESTART: "needrestart -r a 2>&1 | grep nginx | tail -1",
    Action.UNRELATED: f"apt-get install --yes lab-unrelated >{LOG} 2>&1; code=$?; grep nginx {LOG}; exit $code",
    Action.NEWER: f"dpkg --install {KEPT}/newer.deb >{LOG} 2>&1; code=$?; tail -1 {LOG}; exit $code",
}
DPKG = "/var/lib/dpkg"
KEEP_PACKAGES = f"mkdir -p {KEPT}/info; cp -a {DPKG}/status {KEPT}/; cp -a {DPKG}/info/nginx* {KEPT}/info/"
PLAIN_PACKAGES = f"""\
rm -f {DPKG}/info/nginx* {DPKG}/info/lab-unrelated*
cp -a {KEPT}/info/. {DPKG}/info/
cp -a {KEPT}/status {DPKG}/status
"""
PLAIN = f"""\
rm -rf /run/systemd/system/nginx.service.d /var/lib/fleet/instances
systemctl daemon-reload
systemctl kill --kill-who=all -s KILL nginx 2>/dev/null || true
systemctl stop nginx 2>/dev/null || true
pkill -KILL -x nginx || true
systemctl reset-failed nginx 2>/dev/null || true
rm -f {PACKAGED.pid_file} {PACKAGED.pid_file}.oldbin
cp -p {KEPT}/program {PACKAGED.program}.tmp; mv {PACKAGED.program}.tmp {PACKAGED.program}
cp -p {KEPT}/config {PACKAGED.config}
"""
CHANGING = ("activating", "deactivating", "reloading")
REST_S, LOOK_EVERY_S, WITHIN_S = 1.0, 0.3, 40.0
CALL_S = 120.0


@dataclass(frozen=True, slots=True)
class Packages:
    """What a host with a database of packages can be given."""

    newer: Path
    unrelated: Path
    binary_sha256: str

    @classmethod
    def made(cls, folder: Path) -> "Packages":
        """nginx with a higher version and a binary that neither fleet nor the host has."""
        binary = make_release("new", folder / "packaged", version="1.22.9")
        return cls(repack(NGINX, "+table1", folder, binary=binary), unrelated(folder), sha256(binary))


def keep(host: LabHost, packages: Packages) -> None:
    """The host keeps what it is at first."""
    host.sh(KEEP)
    if host.kind == WITH_PACKAGES:
        offer(host, packages.unrelated)
        host.sh(f"{KEEP_PACKAGES}; mv {send(host, packages.newer)} {KEPT}/newer.deb")


class Unit(NamedTuple):
    """What `systemctl show` says."""

    main_pid: int
    active: str
    restarts: int


def unit(host: LabHost) -> Unit:
    """nginx's unit, as systemd has it now."""
    said = host.sh("systemctl show nginx -p MainPID -p ActiveState -p NRestarts")
    shown = dict(line.split("=", 1) for line in said.split())
    return Unit(int(shown["MainPID"]), shown["ActiveState"], int(shown.get("NRestarts", 0)))


def make_plain(host: LabHost) -> None:
    """Whatever happened here: the host runs what it ran at first, by its unit, and fleet knows nothing of it."""
    start = f"su root -c {PACKAGED.program}" if host.kind == BY_HAND else "systemctl start nginx"
    packages = PLAIN_PACKAGES if host.kind == WITH_PACKAGES else ""
    host.sh(f"{PLAIN}{packages}{start}\n{until(SERVES)}", timeout_s=CALL_S)


@dataclass(frozen=True, slots=True)
class Outsider:
    """He acts on one host, whose releases are `old` and `new`, and that of the newer package (all by SHA-256)."""

    host: LabHost
    old: str
    new: str
    packaged: str

    def act(self, action: Action) -> tuple[int, str]:
        """The exit code and the last line of what he typed. Returns once nginx and its unit have come to rest."""
        kills: Mapping[Action, Callable[[], tuple[Process, ...]]] = {
            Action.KILL_OLD: lambda: self.masters(self.old),
            Action.KILL_NEW: lambda: self.masters(self.new),
            Action.KILL_ONLY: lambda: Inside(self.host).masters(),
        }
        code, said = 0, ""
        if action is Action.POWER:
            self.host.kill()
            self.host.boot()
        elif action in kills:
            victims = kills[action]()
            assert len(victims) == 1, f"{self.host.name}: {len(victims)} such masters"
            victims[0].signal(signal.SIGKILL)
        elif action in TYPED:
            done = self.host.exec(["/bin/sh", "-c", TYPED[action]], timeout_s=CALL_S)
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            code, said = done.returncode, said.splitlines()[0] if said else ""
        self.rest()
        return code, said

    def rest(self) -> None:
        """Nothing of nginx and its unit has changed for a while. Raises AssertionError when it does not come to rest."""
        until_s = time.monotonic() + WITHIN_S
        last, since_s = self._state(), time.monotonic()
        while time.monotonic() - since_s < REST_S or last[1].active in CHANGING:
            assert time.monotonic() < until_s, f"{self.host.name} does not come to rest: {last}"
            time.sleep(LOOK_EVERY_S)
            now = self._state()
            if now != last:
                last, since_s = now, time.monotonic()

    def _state(self) -> tuple[tuple[int, ...], Unit]:
        mine = [one.pid for one in Inside(self.host).processes() if one.name == "nginx"]
        return tuple(sorted(mine)), unit(self.host)

    def masters(self, sha256: str) -> tuple[Process, ...]:
        """The masters that run this release."""
        return tuple(one for one in Inside(self.host).masters() if one.image_sha256 == sha256)

    def is_verifying(self) -> bool:
        """Both masters have workers that accept."""
        parents = {one.parent for one in Inside(self.host).workers()}
        return all(any(one.pid in parents for one in self.masters(each)) for each in (self.old, self.new))

    def is_held(self) -> bool:
        """The new master alone has workers that accept, and no visit is at work."""
        inside = Inside(self.host)
        parents = {one.parent for one in inside.workers()}
        old, new = self.masters(self.old), self.masters(self.new)
        has_both = len(old) == len(new) == 1
        return has_both and new[0].pid in parents and old[0].pid not in parents and not inside.scripts()

    def main(self, main_pid: int) -> Main:
        """What that process is."""
        if not main_pid:
            return Main.NONE
        found = [one for one in Inside(self.host).processes() if one.inner == main_pid]
        if not found:
            return Main.GONE
        sha256 = found[0].image_sha256 if found[0] in Inside(self.host).masters() else None
        return {self.old: Main.OLD, self.new: Main.NEW, self.packaged: Main.PACKAGE}.get(sha256 or "", Main.OTHER)
