"""The rehearsal on real hosts: what it shows of each kind of release, and that it leaves no trace."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.hosts.nginx import CONFIG, PID_FILE, PREFIX, PROGRAM, START
from fleet.lab.kinds.kind import until
from fleet.lab.lab import Lab
from fleet.lab.releases.build import make_release
from fleet.onhost.nginx.error_log import CRASHED
from fleet.onhost.rehearsal.evidence import Answered, Defect, Generation, Rehearsal
from fleet.onhost.wire import from_plain
from tests.lab.conftest import MakeLab
from tests.support.lab.carried import FOLDER, carry, run_there
from tests.support.lab.inside import Inside
from tests.support.lab.traces import differences, inodes
from tests.support.lab.worlds import END, READY, WORLDS, World, conf, put, server
from tests.support.private_nginx import wait_until

HEALTH = "http://127.0.0.1/health"
ALIVE = ("new", "hang-workers", "errors", "crash-on-request")
WITHOUT_OVERLAYS = ("plain", "unprivileged", "unix-sockets")
IN_WORLDS = [pytest.param(world, True, id=world.name) for world in WORLDS] + [
    pytest.param(
        world, False, id=f"{world.name}-no-overlay", marks=() if world.name in WITHOUT_OVERLAYS else pytest.mark.long
    )
    for world in WORLDS
]
MORE_KILLS = (0.05, 0.15, 0.25, 0.4, 0.65, 0.8)
BROKEN = {
    # On a busy machine looks are rare, and time may be up before enough births were seen; the log names the crashes.
    "crash-workers": {Defect.WORKERS_DIE, Defect.NO_WORKERS},
    "hung-master": {Defect.NO_WORKERS},
    "bad-config": {Defect.ENDED},
}


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("releases")
    folder.chmod(0o755)
    for kind in (*ALIVE, *BROKEN, "missing-lib", "truncated"):
        make_release(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def lab(make_lab: MakeLab, releases: Path) -> Lab:
    lab = make_lab(1, show=[str(releases)])
    for host in lab.hosts:
        carry(host, {})
    return lab


def question(
    release: Path,
    pid_file: str = PID_FILE,
    probes: tuple[str, ...] = (HEALTH,),
    alone: bool = False,
    overlays: bool = True,
    memory_mib: int | None = None,
) -> dict[str, object]:
    return {
        "release": str(release),
        "pid_file": pid_file,
        "probes": probes,
        "alone": alone,
        "overlays": overlays,
        "memory_mib": memory_mib,
    }


def rehearsed(host: LabHost, release: Path, *more: Any, **options: Any) -> Rehearsal:
    answer = run_there(host, "tests.support.lab.puppet_rehearsal", question(release, *more, **options))
    found: Rehearsal = from_plain(Rehearsal, answer)
    return found


def came(found: Generation | None) -> Generation:
    assert found is not None
    assert found.fault is None, found
    return found


def test_a_good_release_does_all_that_the_running_one_does(lab: Lab, releases: Path) -> None:
    found = rehearsed(lab.hosts[0], releases / "new")

    assert (found.why_not, found.alone) == (None, False)
    old, new = came(found.old), came(found.new)
    assert (new.listeners, new.answers, new.workers) == (old.listeners, old.answers, 2)
    assert [(one.question, one.good) for one in new.answers] == [("tcp 0.0.0.0:80", True), (HEALTH, True)]
    assert (new.lines, new.pid_file, new.error_log) == ((), PID_FILE, old.error_log)
    assert "PATH" in old.environment
    assert "PATH" not in new.environment


@pytest.mark.parametrize("kind", BROKEN)
def test_a_release_that_does_not_come_up_is_seen(lab: Lab, releases: Path, kind: str) -> None:
    found = rehearsed(lab.hosts[0], releases / kind)

    came(found.old)
    assert found.new is not None
    assert found.new.fault is not None
    assert found.new.fault.defect in BROKEN[kind]
    assert any(CRASHED in line for line in found.new.lines) is (kind == "crash-workers")


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("hang-workers", "no answer"), ("crash-on-request", "no answer"), ("errors", "500")],
)
def test_a_release_that_answers_wrongly_is_seen(lab: Lab, releases: Path, kind: str, answer: str) -> None:
    found = rehearsed(lab.hosts[0], releases / kind)

    assert came(found.old).answers[0] == Answered("tcp 0.0.0.0:80", "200", True)
    assert came(found.new).answers[0] == Answered("tcp 0.0.0.0:80", answer, answer == "500")


def test_a_release_that_exits_is_not_waited_for_beside_the_processes_of_a_cache(
    odd: Callable[[str], LabHost], releases: Path
) -> None:
    found = quietly(odd("cache"), releases / "bad-config")

    assert found.new is not None
    assert found.new.fault is not None
    assert found.new.fault.defect is Defect.ENDED


def test_nothing_is_left_on_the_host(lab: Lab, releases: Path) -> None:
    host = lab.hosts[0]
    carry(host, {})
    before, living = inodes(host), {one.inner for one in Inside(host).processes()}

    for kind in ("new", "crash-workers", "hung-master"):
        rehearsed(host, releases / kind)

    assert differences(before, inodes(host)) == {}
    assert {one.inner for one in Inside(host).processes()} == living


@pytest.fixture(scope="module")
def worlds(make_lab: MakeLab, releases: Path) -> dict[str, LabHost]:
    """A host for each world, with its nginx at work."""
    lab = make_lab(len(WORLDS), show=[str(releases)])
    for host, world in zip(lab.hosts, WORLDS, strict=True):
        carry(host, {})
        for path, text in world.files:
            put(host, path, text)
        host.sh(world.shell())
    return dict(zip([world.name for world in WORLDS], lab.hosts, strict=True))


@pytest.mark.parametrize(("world", "overlays"), IN_WORLDS)
def test_a_rehearsal_in_any_world_shows_both_generations_and_leaves_no_trace(
    worlds: dict[str, LabHost], releases: Path, world: World, overlays: bool
) -> None:
    host = worlds[world.name]
    before, living = inodes(host, own_folders=world.own_folders), {one.inner for one in Inside(host).processes()}

    found = rehearsed(host, releases / "new", world.pid_file, (world.probe,), overlays=overlays)

    assert differences(before, inodes(host, own_folders=world.own_folders)) == {}
    assert {one.inner for one in Inside(host).processes()} == living
    assert found.why_not is None, found
    old, new = came(found.old), came(found.new)
    assert (new.listeners, new.answers, new.lines) == (old.listeners, old.answers, old.lines)
    assert new.answers[-1] == Answered(world.probe, "as expected", True)


def test_another_programs_socket_is_not_reached(worlds: dict[str, LabHost], releases: Path) -> None:
    host = worlds["unix-sockets"]

    found = rehearsed(host, releases / "new")

    assert Answered("tcp 127.0.0.1:8081", "502", True) in came(found.new).answers
    assert host.sh("cat /run/app.met") == ""
    host.sh("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/app.sock\")'")
    wait_until(lambda: host.sh("cat /run/app.met") == "MET\n", "the program says whom it met")


@dataclass(frozen=True, slots=True)
class Odd:
    """A change to the plain host: shell that is run before its nginx is started again, and lines of its configuration."""

    shell: str = ""
    http: str = ""
    main: str = "user www-data;"
    start: str = START
    after: str = ""


ODD = {
    "fifo": Odd(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/k.plain -out /etc/c.pem -days 3 -subj /CN=a 2>/dev/null; "
        "openssl rsa -aes256 -passout pass:secret -in /etc/k.plain -out /etc/k.pem 2>/dev/null; mkfifo /etc/k.pass",
        "server { listen 443 ssl; ssl_certificate /etc/c.pem; ssl_certificate_key /etc/k.pem; ssl_password_file /etc/k.pass; }",
        start=f"(echo secret > /etc/k.pass) & {START}",
    ),
    "large-log": Odd(
        "mkdir -p /var/log/big; head -c 300M /dev/zero > /var/log/big/one.log",
        after=f"sed -i 's,^http {{,http {{ server {{ listen 8090; error_log /var/log/big/one.log; }},' {CONFIG}",
    ),
    "tls": Odd(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/k.pem -out /etc/c.pem -days 3 -subj /CN=a 2>/dev/null",
        "server { listen 8443 ssl; ssl_certificate /etc/c.pem; ssl_certificate_key /etc/k.pem; return 204; }",
    ),
    "names": Odd(
        "echo '127.0.0.9 app.example.test' >> /etc/hosts; printf 'nameserver 127.0.0.53\\n' > /etc/resolv.conf; "
        "sed -i 's/^hosts:.*/hosts: files dns/' /etc/nsswitch.conf; "
        f"cd {FOLDER}; setsid python3 -m tests.support.lab.puppet_dns </dev/null >/run/dns.log 2>&1 & "
        + until("[ -e /run/dns.up ]"),
        "upstream a { server app.example.test:8080; } upstream b { server db.example.test:8080; } "
        "server { listen 8091; location / { proxy_pass http://a; } location /b { proxy_pass http://b; } }",
    ),
    "cache": Odd("mkdir -p /var/cache/one", "proxy_cache_path /var/cache/one keys_zone=one:1m;"),
    "remote-syslog": Odd(
        http="access_log syslog:server=192.0.2.9; error_log syslog:server=192.0.2.9 info; "
        "server { listen 8094; access_log syslog:server=127.0.0.1:5514; return 200 ok; }",
    ),
    "no-working-folder": Odd(start=f"mkdir /run/gone; cd /run/gone; {START}; cd /; rmdir /run/gone"),
    "log-in-a-fifo": Odd(
        "mkfifo /run/access.fifo; setsid cat /run/access.fifo </dev/null >/run/access.out 2>&1 &",
        "server { listen 8093; access_log /run/access.fifo; return 200 ok; }",
    ),
    "environment": Odd(
        main="user www-data; env KEPT; env GIVEN=here;",
        start=f"KEPT=yes LOST=no TZ=UTC {START}",
    ),
    "syslog": Odd(
        "rm -f /dev/log; setsid python3 -c 'import socket\n"
        's = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/dev/log")\n'
        "while True: print(s.recv(4096), flush=True)' </dev/null >/run/syslog.met 2>&1 & " + until("[ -S /dev/log ]"),
        "server { listen 8092; access_log syslog:server=unix:/dev/log; return 200 ok; }",
    ),
    "bound-binary": Odd(f"cp {PROGRAM} /srv/nginx-real; mount --bind /srv/nginx-real {PROGRAM}"),
    "read-only-binary": Odd(f"mount --bind {PREFIX}/sbin {PREFIX}/sbin; mount -o remount,bind,ro {PREFIX}/sbin"),
    "file-capability": Odd(
        f"chown 1234 {PROGRAM}; chown -R 1234:1234 {PREFIX}/logs; mkdir -p /var/lib/nginx; chown -R 1234 /var/lib/nginx; "
        # cap_net_bind_service+ep, version 2 (linux/capability.h): 1 << 10 is permitted, and effective.
        f'python3 -c \'import os; os.setxattr("{PROGRAM}", "security.capability", '
        'bytes.fromhex("0100000200040000000000000000000000000000"))\'',
        main="",
        start=f"setpriv --reuid=1234 --regid=1234 --clear-groups {START}",
    ),
}


@pytest.fixture(scope="module")
def odd(make_lab: MakeLab, releases: Path) -> Callable[[str], LabHost]:
    """Gives the host for an odd thing, with its nginx at work."""
    lab = make_lab(len(ODD), show=[str(releases)])
    hosts = dict(zip(ODD, lab.hosts, strict=True))
    return lambda name: made_odd(hosts[name], ODD[name])


def made_odd(host: LabHost, one: Odd) -> LabHost:
    carry(host, {})
    host.sh(END + one.shell)
    put(host, CONFIG, conf(server() + one.http, main=one.main))
    host.sh(f"{one.start}\n{until(f'[ -s {PID_FILE} ]')}{until(READY)}{one.after}")
    return host


def quietly(host: LabHost, release: Path) -> Rehearsal:
    """A rehearsal there, after which the host is as before."""
    before, living = inodes(host), {one.inner for one in Inside(host).processes()}
    found = rehearsed(host, release)
    assert differences(before, inodes(host)) == {}
    assert {one.inner for one in Inside(host).processes()} == living
    return found


def test_a_fifo_without_a_writer_is_named_soon(odd: Callable[[str], LabHost], releases: Path) -> None:
    found = quietly(odd("fifo"), releases / "new")

    assert found.old is not None
    assert found.old.fault is not None
    assert (found.old.fault.defect, found.old.fault.path) == (Defect.BLOCKED, "/etc/k.pass")
    assert found.wall_s < 10


def test_a_log_too_large_to_copy_is_taken_as_empty(odd: Callable[[str], LabHost], releases: Path) -> None:
    found = quietly(odd("large-log"), releases / "new")

    assert Answered("tcp 0.0.0.0:8090", "200", True) in came(found.new).answers


def test_a_tls_listener_is_asked_within_tls(odd: Callable[[str], LabHost], releases: Path) -> None:
    found = quietly(odd("tls"), releases / "new")

    assert Answered("tcp 0.0.0.0:8443", "204 over TLS", True) in came(found.new).answers


def test_names_are_resolved_as_on_the_host(odd: Callable[[str], LabHost], releases: Path) -> None:
    host = odd("names")
    host.sh(": > /run/dns.log")

    found = rehearsed(host, releases / "new")

    assert came(found.new).lines == came(found.old).lines == ()
    assert "example" in host.sh("cat /run/dns.log")


def test_only_the_variables_that_usr2_keeps_are_there_afterwards(odd: Callable[[str], LabHost], releases: Path) -> None:
    found = quietly(odd("environment"), releases / "new")

    assert {"KEPT", "LOST", "TZ"} <= set(came(found.old).environment)
    assert {"KEPT", "GIVEN", "TZ"} <= set(came(found.new).environment)
    assert "LOST" not in came(found.new).environment


def test_the_system_log_hears_nothing(odd: Callable[[str], LabHost], releases: Path) -> None:
    host = odd("syslog")

    found = quietly(host, releases / "new")

    assert Answered("tcp 0.0.0.0:8092", "200", True) in came(found.new).answers
    assert came(found.new).lines == ()
    assert host.sh("cat /run/syslog.met") == ""


def test_a_log_server_that_is_out_of_reach_speaks_against_no_release(
    odd: Callable[[str], LabHost], releases: Path
) -> None:
    host = odd("remote-syslog")

    for _ in range(3):
        found = quietly(host, releases / "new")

        assert came(found.old).lines == came(found.new).lines == ()


def test_a_log_that_is_a_fifo_finds_a_reader_in_the_copy(odd: Callable[[str], LabHost], releases: Path) -> None:
    host = odd("log-in-a-fifo")

    found = quietly(host, releases / "new")

    assert Answered("tcp 0.0.0.0:8093", "200", True) in came(found.new).answers
    assert host.sh("cat /run/access.out") == ""


@pytest.mark.parametrize("name", ["no-working-folder", "bound-binary", "read-only-binary", "file-capability"])
def test_a_binary_that_is_odd_is_rehearsed_all_the_same(
    odd: Callable[[str], LabHost], releases: Path, name: str
) -> None:
    found = quietly(odd(name), releases / "new")

    assert came(found.new).answers == came(found.old).answers


def test_where_memory_is_short_the_new_release_is_rehearsed_alone_or_not_at_all(lab: Lab, releases: Path) -> None:
    host = lab.hosts[0]

    one = rehearsed(host, releases / "new", memory_mib=50)
    none = rehearsed(host, releases / "new", memory_mib=20)

    assert (one.why_not, one.alone, one.old) == (None, True, None)
    assert [answer.good for answer in came(one.new).answers] == [True, True]
    assert none.new is None
    assert "memory is short: the host has 20 MiB free (MemAvailable in /proc/meminfo)" in str(none.why_not)


def child(pid: int) -> int | None:
    """The first child of a process of this machine."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(found[0]) if found else None


@pytest.mark.parametrize(
    "after_s", [0.1, 0.2, 0.3, 0.5, *(pytest.param(one, marks=pytest.mark.long) for one in MORE_KILLS)]
)
def test_a_rehearsal_that_is_killed_leaves_nothing(lab: Lab, releases: Path, after_s: float) -> None:
    host = lab.hosts[0]
    asked = question(releases / "new")
    before, living = inodes(host), {one.inner for one in Inside(host).processes()}
    argv = host.enter(["/usr/bin/env", f"PYTHONPATH={FOLDER}", "python3", "-m", "tests.support.lab.puppet_rehearsal"])

    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        running.stdin.write(json.dumps(asked))
        running.stdin.close()
        wait_until(lambda: child(running.pid) is not None, "the rehearsal runs")
        asker = child(running.pid)
        time.sleep(after_s)  # The moment of the kill, not a wait for something.
        if asker is not None and child(running.pid) == asker:
            os.kill(asker, signal.SIGKILL)

    wait_until(lambda: {one.inner for one in Inside(host).processes()} == living, "everything of it is gone")
    assert differences(before, inodes(host)) == {}
    assert "rehearsed" not in host.sh("cat /proc/1/mountinfo")
