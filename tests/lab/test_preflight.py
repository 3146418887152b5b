"""Every reason of preflight on a real host: a kind of the lab, or a plain host that the test changed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import BINARY, CONFIG, PID_FILE, PREFIX, PROGRAM, SERVES, START
from fleet.lab.kinds.all_kinds import KINDS
from fleet.lab.kinds.kind import until
from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from fleet.onhost.protocol import Finding, Severity
from fleet.onhost.reasons.catalogue import PREFLIGHT, REASONS
from fleet.onhost.wire import from_plain
from tests.lab.conftest import MakeLab
from tests.support.deaf_nginx import where_the_mask_opens
from tests.support.lab.carried import FOLDER, carry

PUPPET = ("/usr/bin/env", f"PYTHONPATH={FOLDER}", "python3", "-B", "-m", "tests.support.lab.puppet_preflight")
RESTART = f"kill -QUIT $(cat {PID_FILE}); while [ -e {PID_FILE} ]; do sleep 0.01; done"
UNIT = "fake.service"

# What `systemctl show` prints is recorded from its format, not from a systemd that ran here: unverified.
SYSTEMCTL = "/usr/sbin/systemctl"


@dataclass(frozen=True)
class Scene:
    """How to provoke a reason: the kind of host, the shell that changes it, and the request for preflight.

    `release` is a kind of release or one of `PATCHES`, `None` for none; `probes` are URLs; `prefix` is put before the command.
    """

    kind: str = "plain"
    shell: str = ""
    release: str | None = "new"
    pid_file: str | None = PID_FILE
    uid: int = 0
    probes: tuple[str, ...] = ()
    rehearse: bool = True
    guard: bool = True
    prefix: tuple[str, ...] = ()


# nginx blocks every signal and never opens its mask; only KILL ends it.
DEAF = (
    f"{RESTART}; cp {PROGRAM} {PROGRAM}.deaf; printf '\\017\\037\\104\\000\\000' | "
    f"dd of={PROGRAM}.deaf bs=1 seek=@MASK@ conv=notrunc status=none; mv {PROGRAM}.deaf {PROGRAM}; {START}"
)


def config(edit: str) -> str:
    """Shell that edits nginx.conf with sed."""
    return f"sed -i '{edit}' {CONFIG}"


def systemd(shown: str, code: int = 0) -> str:
    """Shell that makes a host look as if systemd ran there: a unit's control group around nginx, and a `systemctl`."""
    return (
        "top=/sys/fs/cgroup; [ -d $top/systemd ] && top=$top/systemd; "
        f"group=$top/@LINK@-{UNIT}; mkdir -p $group; echo $(cat {PID_FILE}) > $group/cgroup.procs; "
        f"mkdir -p /run/systemd/system; touch /run/systemd/notify; rm -f {SYSTEMCTL}; "
        f"printf '#!/bin/sh\\nprintf \"{shown}\"\\nexit {code}\\n' > {SYSTEMCTL}; chmod 755 {SYSTEMCTL}; "
        f"sed -i s/@PID@/$(cat {PID_FILE})/ {SYSTEMCTL}"
    )


# unattended-upgrades is on, and apt knows a newer nginx.
OFFERED = (
    "touch /usr/bin/unattended-upgrade; mkdir -p /etc/apt/apt.conf.d /etc/apt/preferences.d /srv/offered "
    "/var/lib/apt/lists/partial; echo 'APT::Periodic::Unattended-Upgrade \"1\";' >/etc/apt/apt.conf.d/20auto-upgrades; "
    "printf 'Package: nginx\nVersion: 99\nArchitecture: all\nFilename: ./x.deb\nSize: 1\nSHA256: 0\n' >/srv/offered/Packages; "
    "echo 'deb [trusted=yes] file:/srv/offered ./' >/etc/apt/sources.list; apt-get -q -o APT::Sandbox::User=root update"
)
UPGRADING = (
    f"mkdir -p /run/systemd/system; rm -f {SYSTEMCTL}; printf '#!/bin/sh\necho activating\n' >{SYSTEMCTL}; "
    f"chmod 755 {SYSTEMCTL}"
)


def patched(old: bytes, new: bytes) -> tuple[bytes, bytes]:
    assert len(old) == len(new)
    return old, new


GUARDED = systemd(
    f"Id={UNIT}\\\\nType=forking\\\\nPIDFile={PID_FILE}\\\\nMainPID=@PID@\\\\nKillMode=process\\\\nNeedDaemonReload=yes\\\\n"
)
PATCHES = {
    "other-loader": patched(b"/ld-linux-", b"/ld-limux-"),
    "angie": patched(b"nginx/1.22.9", b"Angie/1.22.9"),
    "other-prefix": patched(b"--prefix=/usr/share", b"--prefix=/usr/shard"),
    "other-modules-path": patched(b"--modules-path=/usr/lib", b"--modules-path=/usr/lab"),
    "no-dav": patched(b"--with-http_dav_module", b"--with-http_dax_module"),
    # No nginx of Debian 12 speaks HTTP/3; this one takes its `listen` option for that of HTTP/2.
    "http3": patched(b"\0http2\0", b"\0http3\0"),
    # Its warnings are critical. The word is the end of a directive's name, too, which no host here has.
    "grave": patched(b"_variable_warn\0", b"_variable_crit\0"),
}

SCENES = {
    "no_root": Scene(uid=65534),
    "state_noexec": Scene("state-noexec"),
    "path_noexec": Scene(shell=f"mount --bind {PREFIX}/sbin {PREFIX}/sbin; mount -o remount,bind,noexec {PREFIX}/sbin"),
    "read_only": Scene("pid-dir-readonly"),
    "disk_full": Scene("full-disk"),
    "no_inodes": Scene("no-inodes"),
    "memory_short": Scene("memory-short"),
    "pids_short": Scene("pids-short"),
    "package_lock": Scene("dpkg-locked"),
    "no_master": Scene("no-nginx"),
    "several_masters": Scene("two-masters", pid_file=None),
    "upgrade_in_progress": Scene("by-hand"),
    "previous_master": Scene("old-master-alive"),
    "pid_file_missing": Scene("pid-missing"),
    "pid_file_empty": Scene("pid-empty"),
    "pid_file_wrong": Scene("pid-lying"),
    "supervised": Scene("supervised"),
    "daemon_off": Scene("daemon-off"),
    "pid_1": Scene(
        shell=f"{RESTART}; setsid unshare --pid --fork --mount-proc {START} -g 'daemon off;' </dev/null >/dev/null 2>&1 & "
        f"until [ -s {PID_FILE} ] && pgrep -f 'worker proces[s]' >/dev/null; do sleep 0.01; done",
        prefix=("/bin/sh", "-c", 'exec nsenter -t $(pgrep -f "maste[r] process") -p -m -- "$@"', "sh"),
    ),
    "relative_argv0": Scene("relative-argv0"),
    "master_process_off": Scene("master-process-off"),
    "stopped": Scene("frozen"),
    "signals_unheard": Scene(shell=DEAF),
    "signal_pending": Scene(shell=f"{DEAF}\n{until(SERVES)}kill -USR2 $(cat {PID_FILE})"),
    "poisoned": Scene("poisoned"),
    "other_root": Scene(shell=f"{RESTART}; mkdir /srv/jail; mount --rbind / /srv/jail; chroot /srv/jail {START}"),
    "pid_file_fixed": Scene(shell=f"mount --bind {PID_FILE} {PID_FILE}"),
    "not_replaceable": Scene(shell=f"mount --bind {PROGRAM} {PROGRAM}"),
    "binary_missing": Scene(shell=f"mv {PROGRAM} {PROGRAM}.gone"),
    "path_differs": Scene("path-differs"),
    "shared_binary": Scene("shared-binary"),
    "not_staged": Scene(release=None),
    "wrong_architecture": Scene(release="wrong-arch"),
    "loader_missing": Scene(release="other-loader"),
    "library_missing": Scene(release="missing-lib"),
    "cannot_run": Scene(release="truncated"),
    "other_server": Scene(release="angie"),
    "config_rejected": Scene(release="bad-config"),
    "module_mismatch": Scene(shell=f": >/opt/module.so; {config('1i load_module /opt/module.so;')}"),
    "paths_moved": Scene(release="other-prefix"),
    "build_differs": Scene(release="other-modules-path"),
    "modules_gone": Scene(release="no-dav"),
    "not_checked": Scene(shell=systemd("Failed to connect to bus", code=1)),
    "pending_config": Scene("pending-touch"),
    "listener_missing": Scene(shell=config("s/listen 80;/listen 8088;/")),
    "listener_busy": Scene(
        shell=f"{config('s/listen 80;/listen 80; listen 8088;/')}; "
        "setsid python3 -m http.server 8088 </dev/null >/dev/null 2>&1 & "
        "until python3 -c 'import socket; socket.create_connection((\"localhost\", 8088), 5)' 2>&-; do :; done"
    ),
    "listener_added": Scene("pending-config"),
    "fewer_workers": Scene(
        shell=f"{RESTART}; {config('s/listen 80;/listen 80 reuseport;/')}; {START}; "
        + config("s/^worker_processes 2/worker_processes 1/")
    ),
    "processors_changed": Scene(
        shell=f"{RESTART}; {config('s/^worker_processes 2/worker_processes auto/')}; echo 0-4 >/run/online; "
        f"mount --bind /run/online /sys/devices/system/cpu/online; {START}; "
        f"until [ $(pgrep -c -P $(cat {PID_FILE})) = 5 ]; do sleep 0.01; done; umount /sys/devices/system/cpu/online"
    ),
    "quic": Scene(
        shell=f"{RESTART}; sed -i 's/\\x00http2\\x00/\\x00http3\\x00/' {PROGRAM}; "
        f"{config('s/listen 80;/listen 80; listen 443 http3;/')}; {START}",
        release="http3",
    ),
    "not_rehearsed": Scene(prefix=("setpriv", "--bounding-set", "-sys_admin")),
    "rehearsal_off": Scene(rehearse=False),
    "rehearsal_inconclusive": Scene(shell=config("1i nonsense on;")),
    "old_would_not_start": Scene(shell=config("s/listen 80;/listen 80; listen 8089 http3;/"), release="http3"),
    "fifo_blocks": Scene(
        shell=f"mkfifo /opt/secret; {config('s#listen 80;#listen 80; ssl_password_file /opt/secret;#')}"
    ),
    "rehearsal_log": Scene(shell=config("s/^http {/http { server { listen 80; server_name _; }/"), release="grave"),
    "answers_differ": Scene(release="errors"),
    "pid_file_moved": Scene(shell=config("s#^pid \\(.*\\);#pid \\1.other;#")),
    "probe_fails_already": Scene("sick", probes=("http://127.0.0.1/health",)),
    "no_error_log": Scene("syslog-only"),
    "env_lost": Scene(
        shell=f"{RESTART}; cp $(ldconfig -p | grep -m1 -o '/.*libutil.so.1') /opt/libjemalloc.so.2; "
        f"LD_PRELOAD=/opt/libjemalloc.so.2 {START}"
    ),
    "unit_type": Scene(shell=systemd(f"Id={UNIT}\\\\nType=simple\\\\nPIDFile=\\\\nMainPID=@PID@\\\\n")),
    "unit_pid_file": Scene(shell=systemd(f"Id={UNIT}\\\\nType=forking\\\\nPIDFile=\\\\nMainPID=@PID@\\\\n")),
    "unit_lost": Scene(shell=systemd(f"Id={UNIT}\\\\nLoadState=masked\\\\nMainPID=@PID@\\\\n")),
    "unit_main_pid_fixed": Scene(
        shell=systemd(f"Id={UNIT}\\\\nType=forking\\\\nPIDFile={PID_FILE}\\\\nMainPID=77\\\\n")
        + "; rm /run/systemd/notify"
    ),
    "exec_paths": Scene(
        shell=f"mount --bind {PREFIX}/sbin {PREFIX}/sbin; mount --bind {PROGRAM} {PROGRAM}; "
        f"mount -o remount,bind,noexec {PREFIX}/sbin"
    ),
    "unit_ended": Scene(
        shell=systemd(f"Id={UNIT}\\\\nType=forking\\\\nPIDFile={PID_FILE}\\\\nMainPID=0\\\\nActiveState=failed\\\\n")
    ),
    "unit_main_pid": Scene(shell=systemd(f"Id={UNIT}\\\\nType=forking\\\\nPIDFile={PID_FILE}\\\\nMainPID=77\\\\n")),
    "unit_by_hand": Scene(shell=systemd(f"Id={UNIT}\\\\nType=notify\\\\nMainPID=77\\\\n")),
    "started_beside_unit": Scene("systemd-by-hand", pid_file="/run/nginx.pid"),
    "started_by_hand": Scene(
        "systemd-by-hand",
        shell="rm /usr/lib/systemd/system/nginx.service; systemctl daemon-reload",
        pid_file="/run/nginx.pid",
    ),
    "guard_impossible": Scene(
        shell=f"{GUARDED}; mount --bind /run/systemd/system /run/systemd/system; "
        "mount -o remount,bind,ro /run/systemd/system"
    ),
    "no_guard": Scene(shell=GUARDED, guard=False),
    "unit_held": Scene(shell=GUARDED),
    "unit_outdated": Scene(shell=GUARDED),
    "packaged": Scene("packaged", pid_file="/run/nginx.pid"),
    "package_upgrade_comes": Scene("packaged", OFFERED, pid_file="/run/nginx.pid"),
    "package_run_now": Scene("packaged", UPGRADING, pid_file="/run/nginx.pid"),
}

# What would fail at the launch or in verify, and is seen in the rehearsal.
BAD_RELEASES = {
    "crash-workers": "workers_crash",
    "crash-on-request": "workers_crash",
    "hang-workers": "answers_differ",
    "hung-master": "workers_missing",
    "errors": "answers_differ",
}
FULL_STATE = Scene("full-state", release=None)
# Odd, but fit for an upgrade: not one refusal.
FIT = (
    "plain",
    "stale-oldbin",
    "symlinked-binary",
    "unix-socket",
    "log-error",
    "log-off",
    "alert-affinity",
    "alert-rlimit",
    "syslog-only",
    "packaged",
    "sick",
)


def place_of(scene: Scene) -> tuple[str, str]:
    """Scenes of the same kind that the same was done to share a host."""
    return scene.kind, scene.shell


@dataclass(frozen=True)
class Stage:
    """The lab, the releases that all of its hosts see, and which case each host plays."""

    lab: Lab
    releases: Path
    hosts: dict[tuple[str, str], LabHost]

    def judged(self, scene: Scene, allow: Iterable[str] = ()) -> dict[str, Finding]:
        host = self.hosts[place_of(scene)]
        staged = str(self.releases / scene.release) if scene.release else None
        asked = {"staged": staged, "pid_file": scene.pid_file, "uid": scene.uid, "allow": list(allow)}
        asked |= {"probes": list(scene.probes), "rehearse": scene.rehearse, "guard": scene.guard}
        done = host.exec([*scene.prefix, *PUPPET], input=json.dumps(asked).encode(), timeout_s=120)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return {one["reason"]: from_plain(Finding, one) for one in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def stage(make_lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """One lab, with a host for each thing that is done to one."""
    releases = tmp_path_factory.mktemp("releases")
    releases.chmod(0o755)
    for release in {scene.release for scene in SCENES.values() if scene.release} | set(BAD_RELEASES):
        make(releases, release)
    places = sorted({place_of(scene) for scene in (*SCENES.values(), FULL_STATE)} | {(kind, "") for kind in FIT})
    kinds = {f"lab-{number:03}": kind for number, (kind, _) in enumerate(places, 1)}
    lab = make_lab(len(places), kinds, show=[str(releases)])
    hosts = dict(zip(places, lab.hosts, strict=True))
    for (_, shell), host in hosts.items():
        carry(host, {})
        if shell:
            link = host.paths.link(host.entry.number)
            mask = where_the_mask_opens(BINARY.read_bytes()) if "@MASK@" in shell else 0
            host.sh(shell.replace("@LINK@", link).replace("@MASK@", str(mask)))
    return Stage(lab, releases, hosts)


def make(folder: Path, release: str) -> None:
    path = make_release("new" if release in PATCHES else release, folder / release)
    if release not in PATCHES:
        return
    old, new = PATCHES[release]
    original = path.read_bytes()
    assert old in original, release
    path.write_bytes(original.replace(old, new))


def test_every_word_of_preflight_has_a_scene() -> None:
    # `psutil_missing` is said before the package can be loaded: tests/ssh/delivery/test_bundle.py provokes it.
    assert set(SCENES) | {"psutil_missing"} == {reason.word for reason in PREFLIGHT}


@pytest.mark.parametrize("word", SCENES)
def test_a_host_that_deserves_a_word_hears_it(stage: Stage, word: str) -> None:
    found = stage.judged(SCENES[word])

    assert word in found, found
    assert found[word].severity is REASONS[word].severity
    assert found[word].message
    assert found[word].remedy


@pytest.mark.parametrize("word", [reason.word for reason in PREFLIGHT if reason.overridable])
def test_an_allowed_finding_becomes_a_warning(stage: Stage, word: str) -> None:
    found = stage.judged(SCENES[word], allow=[word.replace("_", "-")])

    assert found[word].severity is Severity.WARNING


@pytest.mark.parametrize(("release", "word"), BAD_RELEASES.items())
def test_a_bad_release_is_found_before_any_user_meets_it(stage: Stage, release: str, word: str) -> None:
    found = stage.judged(Scene(release=release))

    assert word in found, found
    assert found[word].severity is Severity.REFUSAL


def test_a_full_state_folder_is_found_out_before_the_release_is_sent(stage: Stage) -> None:
    assert "disk_full" in stage.judged(FULL_STATE)


@pytest.mark.parametrize("kind", FIT)
def test_a_host_that_is_fit_is_not_refused(stage: Stage, kind: str) -> None:
    pid_file = "/run/nginx.pid" if kind == "packaged" else PID_FILE

    found = stage.judged(Scene(kind, pid_file=pid_file))

    assert {word for word, one in found.items() if one.severity is Severity.REFUSAL} == set()


def test_a_plain_host_and_a_good_release_give_no_finding_with_and_without_a_hint(stage: Stage) -> None:
    assert stage.judged(Scene()) == {}
    assert stage.judged(Scene(pid_file=None)) == {}


def test_the_kinds_that_are_used_exist() -> None:
    assert {scene.kind for scene in SCENES.values()} | set(FIT) <= set(KINDS)
