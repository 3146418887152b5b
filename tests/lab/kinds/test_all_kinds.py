"""Every kind of host differs as its name says: seen on the host itself, all kinds in one lab."""

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from fleet.errors import Refused
from fleet.lab.hosts import nginx
from fleet.lab.hosts.lab_host import LabHost
from fleet.lab.kinds.all_kinds import KINDS, kind
from fleet.lab.kinds.kind import check, until
from fleet.lab.lab import Lab
from tests.lab.conftest import MakeLab

LOGS = f"{nginx.PREFIX}/logs"
MASTER = f"$(cat {nginx.PID_FILE})"
DEPLOY = "setpriv --reuid=1000 --regid=1000 --clear-groups --"
MASTERS = "pgrep -fc 'nginx: maste[r] process'"

RUN_PID = nginx.PACKAGED.pid_file
MAIN_PID = f"[ $(systemctl show nginx --value -p MainPID) = $(cat {RUN_PID}) ] && echo followed"


def unit(*properties: str) -> str:
    """Shell that shows what systemd knows of nginx's unit; what is empty it leaves out, `ExecStop` too."""
    return f"systemctl show nginx -p {' -p '.join(properties)}"


@dataclass(frozen=True, slots=True)
class Sign:
    """Shell that shows the difference of a kind, what it prints there, and the ports on which /health answers 200."""

    shell: str
    prints: str
    answers_on: tuple[int, ...] = (80,)


SIGNS: Mapping[str, Sign] = {
    "plain": Sign(f"ps -o ppid= -p {MASTER}", "1"),
    "supervised": Sign(f"ps -o args= -p $(ps -o ppid= -p {MASTER})", "/bin/sh /usr/lib/fleet-lab/supervisor"),
    "daemon-off": Sign(
        f"ps -o ppid= -p {MASTER}; kill -USR2 {MASTER}; ls {LOGS}/nginx.pid*; {MASTERS}", f"1\n{LOGS}/nginx.pid\n1"
    ),
    "relative-argv0": Sign(f"ps -o args= -p {MASTER}", f"nginx: master process nginx -c {nginx.CONFIG}"),
    "master-process-off": Sign("pgrep -c nginx", "1"),
    "old-master-alive": Sign(
        f"ps -o ppid= -p {MASTER} | xargs ps -o args= -p; ps -eo args= | grep -c 'shutting dow[n]'",
        f"nginx: master process {nginx.START}\n1",
    ),
    "poisoned": Sign(
        f"grep -c 'rename.*failed' {nginx.ERROR_LOG}; ps -o args= -p {MASTER}",
        f"1\nnginx: master process {nginx.START}",
    ),
    "no-nginx": Sign("pgrep -c nginx || true", "0", ()),
    "headless": Sign(f"{MASTERS} || true", "0"),
    "two-masters": Sign(MASTERS, "2", (80, 8080)),
    "shared-binary": Sign("pgrep -c -f 'maste[r] process /usr/local/nginx/sbin/nginx'", "2", (80, 8080)),
    "by-hand": Sign(f"{MASTERS}; cat {LOGS}/nginx.pid.oldbin | xargs ps -o ppid= -p", "2\n1"),
    "doubled": Sign(f"pgrep -c -P $(cat {LOGS}/nginx.pid.oldbin)", "5"),
    "orphans": Sign(f"{MASTERS}; pgrep -c -P 1 -f 'nginx: worker'", "1\n2"),
    "chrooted": Sign(f"readlink /proc/{MASTER}/root", "/srv/jail"),
    "private-tmp": Sign(f"ps -o ppid= -p {MASTER}; [ /proc/{MASTER}/ns/mnt -ef /proc/1/ns/mnt ] || echo own", "1\nown"),
    "preloaded": Sign(f"grep -c libjemalloc /proc/{MASTER}/maps | sed 's/[1-9].*/mapped/'", "mapped"),
    "frozen": Sign(f"ps -o stat= -p {MASTER} | cut -c1", "T"),
    "stale-oldbin": Sign(f"cat {LOGS}/nginx.pid.oldbin", "99999999"),
    "pid-missing": Sign(f"ls {nginx.PID_FILE} 2>/dev/null || echo none", "none"),
    "pid-empty": Sign(f"wc -c <{nginx.PID_FILE}", "0"),
    "pid-lying": Sign(f"ps -o comm= -p {MASTER}", "sshd"),
    "pid-dir-readonly": Sign(f"touch {LOGS}/x 2>&1 | grep -o 'Read-only file system'", "Read-only file system"),
    "path-differs": Sign(f"cmp -s /proc/{MASTER}/exe {nginx.PROGRAM} || echo differs", "differs"),
    "binary-missing": Sign(f"ls {nginx.PREFIX}/sbin", "nginx.gone"),
    "path-noexec": Sign(f"{nginx.PROGRAM} -v 2>/dev/null || echo $?", "126"),
    "symlinked-binary": Sign(
        f"readlink {nginx.PROGRAM}; ps -o args= -p {MASTER}", f"nginx-1\nnginx: master process {nginx.START}"
    ),
    "packaged": Sign(
        "dpkg -S /usr/sbin/nginx | cut -d: -f1; readlink /proc/$(cat /run/nginx.pid)/exe", "nginx\n/usr/sbin/nginx"
    ),
    "pending-config": Sign(f"grep -c 8088 {nginx.CONFIG}", "1"),
    "pending-touch": Sign(f"[ {nginx.CONFIG} -nt {nginx.PID_FILE} ] && echo newer", "newer"),
    "pending-pid": Sign(f"grep -c other.pid {nginx.CONFIG}; ls {LOGS}/*.pid", f"1\n{nginx.PID_FILE}"),
    "pending-nonsense": Sign(f"{nginx.START} -t >/dev/null 2>&1 || echo bad", "bad"),
    "listener-gone": Sign(f"grep -c 8081 {nginx.CONFIG}", "0", (80, 8081)),
    "listener-busy": Sign(f"grep -c 'listen 22;' {nginx.CONFIG}", "1"),
    "fewer-workers": Sign(f"pgrep -c -P {MASTER}; grep -c '^worker_processes 1;' {nginx.CONFIG}", "2\n1"),
    "unix-socket": Sign("grep -c /run/nginx.sock /proc/net/unix", "1"),
    "sick": Sign(f"grep -c 'return 503' {nginx.CONFIG}", "1", ()),
    "proxy-protocol": Sign(f"grep -c 'listen 80 proxy_protocol;' {nginx.CONFIG}", "1", ()),
    "syslog-only": Sign(
        f"grep error_log {nginx.CONFIG}; ls {LOGS}",
        "error_log syslog:server=127.0.0.1:514 notice;\naccess.log\nnginx.pid",
    ),
    "log-error": Sign(f"wc -c <{nginx.ERROR_LOG}", "0"),
    "log-off": Sign(f"ls {LOGS}", "access.log\nnginx.pid"),
    "log-stderr": Sign(f"ls {LOGS}; grep -c 'start worker processes' /var/log/boot.log", "access.log\nnginx.pid\n1"),
    "alert-affinity": Sign(f"grep -c 'alert.*sched_setaffinity() failed' {nginx.ERROR_LOG}", "2"),
    "alert-rlimit": Sign(f"grep -c 'alert.*setrlimit(RLIMIT_NOFILE, 131072) failed' {nginx.ERROR_LOG}", "2"),
    "full-disk": Sign(f"df --output=avail {nginx.PREFIX} | sed 1d; touch /var/lib/x && echo ok", "0\nok"),
    "no-inodes": Sign(f"df --output=iavail {nginx.PREFIX} | sed 1d", "0"),
    "full-state": Sign("df --output=avail /var/lib/fleet | sed 1d", "0"),
    "state-noexec": Sign("cp /bin/true /var/lib/fleet/; /var/lib/fleet/true 2>/dev/null || echo $?", "126"),
    "small-disks": Sign(
        f"df --output=target /var/lib/fleet {nginx.PREFIX}/sbin {LOGS} | sed 1d",
        f"/var/lib/fleet\n{nginx.PREFIX}/sbin\n{LOGS}",
    ),
    "memory-short": Sign(f"grep -Ec ':(memory)?:/fl[0-9a-f]{{6}}-' /proc/{MASTER}/cgroup", "1"),
    "pids-short": Sign(f"grep -Ec ':(pids)?:/fl[0-9a-f]{{6}}-' /proc/{MASTER}/cgroup", "1"),
    "no-python": Sign("command -v python3 python3.11 python || echo none", "none"),
    "old-python": Sign("command -v python3 python3.11 python; python3 -V", "/usr/bin/python3\nPython 3.5.3"),
    "non-root-user": Sign(f"{DEPLOY} id -u; ls -d /home/deploy/.ssh", "1000\n/home/deploy/.ssh"),
    "no-sudo": Sign("command -v sudo || echo none", "none"),
    "sudo-password": Sign(f"{DEPLOY} sudo -n -- /bin/sh -c 'id -u' 2>&1", "sudo: a password is required"),
    "sudo-user": Sign(f"{DEPLOY} sudo -n -- /bin/sh -c 'id -u'", "0"),
    "no-sftp": Sign("grep -c sftp /etc/ssh/sshd_config || command -v scp", "0\n/usr/bin/scp"),
    "no-sftp-no-scp": Sign("grep -c sftp /etc/ssh/sshd_config || command -v scp || echo none", "0\nnone"),
    "dpkg-locked": Sign("grep -c POSIX /proc/locks | sed 's/[1-9].*/held/'", "held"),
    "systemd": Sign(f"cat /proc/1/comm; systemctl is-active nginx; {MAIN_PID}", "systemd\nactive\nfollowed"),
    "systemd-nginx-org": Sign(
        f"{MAIN_PID}; {unit('ExecReload')} | grep -o 'HUP.*nginx.pid)'", f"followed\nHUP $(/bin/cat {RUN_PID})"
    ),
    "systemd-mainpid": Sign(
        f"{MAIN_PID}; {unit('ExecReload')} | grep -o 'HUP [^ ]*'; {unit('ExecStop', 'KillSignal', 'KillMode')}",
        "followed\nHUP $MAINPID\nKillMode=mixed\nKillSignal=3",
    ),
    "systemd-killmode-process": Sign(
        f"{MAIN_PID}; {unit('ExecStop', 'KillSignal', 'KillMode')}", "followed\nKillMode=process\nKillSignal=3"
    ),
    "systemd-killmode-mixed": Sign(
        f"{MAIN_PID}; {unit('ExecStop', 'KillSignal', 'KillMode')}; {unit('ExecReload')} | grep -o -- '-s reload'",
        "followed\nKillMode=mixed\nKillSignal=3\n-s reload",
    ),
    "systemd-restart-always": Sign(
        f"kill -KILL $(cat {RUN_PID}); {until('[ $(systemctl show nginx --value -p NRestarts) = 1 ]')}"
        f"{until('systemctl -q is-active nginx')}{MAIN_PID}",
        "followed",
    ),
    "systemd-strict": Sign(
        f"{MAIN_PID}; cut -d' ' -f5 /proc/$(cat {RUN_PID})/mountinfo | grep -x /usr/sbin/nginx; "
        f"nsenter -t $(cat {RUN_PID}) -m /usr/bin/env 2>/dev/null || echo $?",
        "followed\n/usr/sbin/nginx\n126",
    ),
    "systemd-hardened": Sign(
        f"{MAIN_PID}; nsenter -t $(cat {RUN_PID}) -m touch /usr/x 2>&1 | grep -o 'Read-only file system'",
        "followed\nRead-only file system",
    ),
    "systemd-sudo": Sign(
        f"{DEPLOY} sudo -n -- /bin/sh -c 'id -u'; {MAIN_PID}; busctl get-property org.freedesktop.login1 "
        "/org/freedesktop/login1 org.freedesktop.login1.Manager KillUserProcesses",
        "0\nfollowed\nb true",
    ),
    "systemd-limits": Sign(
        f"{MAIN_PID}; cat /sys/fs/cgroup/pids/system.slice/nginx.service/pids.max; "
        f"cat /sys/fs/cgroup/memory/system.slice/nginx.service/memory.limit_in_bytes; "
        f"grep -Ec ':(memory|pids|name=systemd)?:/system.slice/nginx.service$' /proc/$(cat {RUN_PID})/cgroup",
        f"followed\n24\n{128 << 20}\n4",
    ),
    "systemd-oneshot": Sign(f"{unit('Type', 'MainPID', 'SubState')}", "Type=oneshot\nMainPID=0\nSubState=exited"),
    "systemd-by-hand": Sign(
        f"systemctl is-active nginx || true; systemctl is-enabled nginx || true; "
        f"grep -o '^0::/user.slice/user-0.slice/session-' /proc/$(cat {RUN_PID})/cgroup",
        "inactive\ndisabled\n0::/user.slice/user-0.slice/session-",
    ),
    "debian-package": Sign(
        f"{MAIN_PID}; dpkg -S /usr/sbin/nginx | cut -d: -f1; dpkg -V nginx nginx-common; {unit('FragmentPath')}",
        "followed\nnginx\n??5?????? c /etc/nginx/nginx.conf\nFragmentPath=/lib/systemd/system/nginx.service",
    ),
    "needrestart": Sign(
        f"{MAIN_PID}; dpkg-query --show --showformat '${{Status}}' needrestart; echo; grep -hF restart "
        "/etc/needrestart/conf.d/automatic.conf; needrestart -b | grep -c SVC: || true",
        "followed\ninstall ok installed\n$nrconf{restart} = 'a';\n0",
    ),
}


WITH_MORE = [name for name, kind in KINDS.items() if kind.installed]
"""They download packages."""


@pytest.fixture(scope="module")
def odd_lab(make_lab: MakeLab) -> Lab:
    """A host of each kind that this machine can make; the tests of the others say what the machine lacks, and fail."""
    possible = [name for name in KINDS if name not in WITH_MORE and lacking(name) is None]
    return make_lab(len(possible), {f"lab-{number:03}": name for number, name in enumerate(possible, 1)})


def lacking(name: str) -> str | None:
    """Why this machine can't make a host of the kind, or `None` when it can."""
    try:
        check(kind(name))
    except Refused as refused:
        return f"{refused} {refused.remedy}"
    return None


def test_every_kind_has_a_sign() -> None:
    assert list(SIGNS) == list(KINDS)


@pytest.mark.parametrize("name", [name for name in SIGNS if name not in WITH_MORE])
def test_a_host_is_of_its_kind(odd_lab: Lab, name: str) -> None:
    assert lacking(name) is None

    host = next(host for host in odd_lab.hosts if host.kind == name)

    assert shown(host) == SIGNS[name].prints.split("\n")
    assert answering(host) == SIGNS[name].answers_on


@pytest.mark.long
@pytest.mark.parametrize("name", WITH_MORE)
def test_a_host_with_packages_that_the_machine_lacks_is_of_its_kind(make_lab: MakeLab, name: str) -> None:
    host = make_lab(1, {"lab-001": name}).host("lab-001")

    assert shown(host) == SIGNS[name].prints.split("\n")
    assert answering(host) == SIGNS[name].answers_on


def shown(host: LabHost) -> list[str]:
    """What the shell of the kind's sign prints on the host."""
    printed = host.exec(["/bin/sh", "-c", SIGNS[str(host.kind)].shell]).stdout.decode()
    return [line.strip() for line in printed.strip().split("\n")]


def answering(host: LabHost) -> tuple[int, ...]:
    return tuple(port for port in (80, 8080, 8081, 8088) if is_well(host, port))


def is_well(host: LabHost, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{host.address}:{port}/health", timeout=60) as answer:
            return bool(answer.read() == b"ok\n")
    except OSError:
        return False
