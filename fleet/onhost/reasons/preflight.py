"""The words of preflight: why a host can't be upgraded, or what to know before it is. Nothing has been changed then.

An operator may pass a refusal that is marked overridable with `--allow WORD`; it is then a warning.
"""

from fleet.onhost.reasons.reason import LEAVE_OUT, refuse, unless_allowed, warn

HOST = (
    refuse(
        "no_root",
        "The step script runs with user id {uid}; only root can signal nginx and replace its binary.",
        "Connect as root, or set ansible_become: true for this host.",
    ),
    refuse(
        "state_noexec",
        "{folder} lies on a file system mounted noexec, so the release can't be tried there.",
        "Set state_dir to a folder on a file system without noexec, or remount: mount -o remount,exec {mount}.",
    ),
    refuse(
        "path_noexec",
        "{folder}, where the binary lies, is mounted noexec: nginx could not execute the new one.",
        "Remount it: mount -o remount,exec {mount}.",
    ),
    refuse(
        "read_only",
        "{folder} can't be written to ({what} goes there): {why}.",
        "Make it writable: mount -o remount,rw {mount}, or see to its mode (chattr, chmod).",
    ),
    refuse(
        "disk_full",
        "{folder} has {free} free; {what} needs {need}.",
        "Free at least {need} on {mount}.",
    ),
    refuse(
        "no_inodes",
        "{folder} has {free} free inodes; fleet needs {need}.",
        "Delete files on {mount} until it has more: df -i {mount}.",
    ),
    unless_allowed(
        "memory_short",
        "{where} has {free} free; a second generation of nginx needs about {need}.",
        "Free memory or raise the limit ({limit}).",
    ),
    refuse(
        "pids_short",
        "{where} allows {free} more processes; a second generation of nginx needs {need}. "
        "A fork that fails would leave the master poisoned.",
        "Raise the limit ({limit}).",
    ),
    refuse(
        "package_lock",
        "The package manager is at work: process {pid} ({title}) holds {path}. It may upgrade nginx by itself.",
        "Wait until it has ended and try again; if it hangs, look at process {pid}.",
    ),
)

MASTER = (
    refuse(
        "no_master",
        "No nginx master runs here{named}.",
        "Start nginx, set nginx_pid_file or nginx_binary if it runs elsewhere, " + LEAVE_OUT + ".",
    ),
    refuse(
        "several_masters",
        "Several nginx masters run here and nothing says which is meant: {masters}.",
        "Set nginx_pid_file for this host; give each instance an inventory name of its own.",
    ),
    refuse(
        "upgrade_in_progress",
        "Somebody else's upgrade is under way here: {whose}.",
        "Finish it: {finish}; or undo it: {undo}.",
    ),
    refuse(
        "previous_master",
        "nginx (pid {pid}) is the child of an older master (pid {older}) that still lives; it ignores USR2 until then.",
        "Wait until {older} has drained, or end it: kill -TERM {older} (cuts its connections); " + LEAVE_OUT + ".",
    ),
    refuse(
        "pid_file_missing",
        "The pid file {path} of nginx (pid {pid}) does not exist; USR2 would fail and poison the master. "
        "The configuration was not tested, because that would create the file empty.",
        "Write it again: echo {pid} > {path}",
    ),
    refuse(
        "pid_file_empty",
        "The pid file {path} of nginx (pid {pid}) is empty. The configuration was not tested.",
        "Write it again: echo {pid} > {path}",
    ),
    refuse(
        "pid_file_wrong",
        "The pid file {path} holds {held!r}, but nginx is pid {pid}. The configuration was not tested.",
        "Write it again: echo {pid} > {path}, or set nginx_pid_file to the right one.",
    ),
    refuse(
        "supervised",
        "nginx (pid {pid}) runs with `daemon off` under {parent} (pid {ppid}), which makes it ignore USR2.",
        "Start it with daemon on, " + LEAVE_OUT + ".",
    ),
    refuse(
        "daemon_off",
        "nginx (pid {pid}) runs with `daemon off` as a child of {parent} (pid {ppid}): it ignores USR2, or WINCH.",
        "Start it with daemon on, " + LEAVE_OUT + ".",
    ),
    refuse(
        "pid_1",
        "nginx is pid 1 of its container, where it ignores USR2.",
        "Replace the container instead, " + LEAVE_OUT + ".",
    ),
    refuse(
        "relative_argv0",
        "nginx (pid {pid}) was started as {program!r}, which is no absolute path: it may not find itself at USR2.",
        "Restart it once by its absolute path.",
    ),
    refuse(
        "master_process_off",
        "nginx (pid {pid}) runs with `master_process off`: a single process knows no USR2.",
        "Take `master_process off` out and restart it, " + LEAVE_OUT + ".",
    ),
    refuse(
        "stopped",
        "nginx (pid {pid}) is stopped (state T), and obeys no signal until it goes on.",
        "Look who stopped it (a debugger?), then: kill -CONT {pid}.",
    ),
    unless_allowed(
        "poisoned",
        "nginx (pid {pid}) is poisoned by a failed USR2 ({evidence}): each reload starts one more set of workers.",
        "Put right what failed then. A new master that comes up and goes again cures it: kill -USR2 {pid}, "
        "kill -QUIT the new one, kill -HUP {pid}.",
    ),
    refuse(
        "other_root",
        "nginx (pid {pid}) lives in another file system view ({why}), so {path} is another file for it.",
        "Run fleet where nginx lives (in that chroot or container), " + LEAVE_OUT + ".",
    ),
    refuse(
        "binary_missing",
        "There is no file at {path}, which nginx (pid {pid}) would execute at USR2.",
        "Put the running binary back: cp /proc/{pid}/exe {path} && chmod 755 {path}.",
    ),
    unless_allowed(
        "path_differs",
        "nginx (pid {pid}) runs {running}, but {path} holds {file} already: somebody replaced the file before.",
        "Restore the file, or restart nginx so that both are one.",
    ),
    refuse(
        "shared_binary",
        "{path} is also the binary of nginx master {other} ({title}), which is not of this instance.",
        "Give each instance a binary of its own (a copy), " + LEAVE_OUT + ".",
    ),
)

RELEASE = (
    warn(
        "not_staged",
        "The release is not on the host, so nothing that needs it was tested: whether it runs, its configuration test, "
        "modules, listeners.",
        "Run the check without --no-stage.",
    ),
    refuse(
        "wrong_architecture",
        "The release is {release}, the running nginx is {running}.",
        "Take a release that was built for this host.",
    ),
    refuse(
        "loader_missing",
        "The release asks for the loader {loader}, which this host does not have.",
        "Take a release built for this host's C library (musl and glibc are not the same).",
    ),
    refuse(
        "library_missing",
        "The release can't be loaded here: {line}",
        "Install the library, or take a release built for this system.",
    ),
    refuse(
        "cannot_run",
        "The release does not run here: `nginx -V` {how}.",
        "Take a whole release, built for this system.",
    ),
    refuse(
        "other_server",
        "The release calls itself {release}, the running one {running}; they do not hand sockets to each other.",
        "Restart such hosts by hand, one by one, " + LEAVE_OUT + ".",
    ),
    refuse(
        "config_rejected",
        "The configuration is rejected by {who}: {line}{also}",
        "Put the configuration right, or take another release.",
    ),
    refuse(
        "paths_moved",
        "The new binary was built for other paths and nothing here overrides it: {paths}.",
        "Build it with the same paths; {how}.",
    ),
    warn(
        "build_differs",
        "The new binary was built differently: {options}.",
        "Nothing to do if this is meant.",
    ),
    unless_allowed(
        "modules_gone",
        "The new binary was built without {modules}.",
        "Build it with them.",
    ),
)

CONFIGURATION = (
    unless_allowed(
        "not_checked",
        "{what} could not be looked at: {why}.",
        "Put that right and try again.",
    ),
    unless_allowed(
        "pending_config",
        "The configuration was changed after nginx loaded it ({loaded}): {files}. A binary upgrade would put it live.",
        "Reload first and see that it is good: {program} -t && kill -HUP {pid}.",
    ),
    refuse(
        "listener_missing",
        "nginx holds {listeners}, but the new binary would not open {it} from the configuration: new connections there "
        "would hang, and a UNIX socket would be deleted for good.",
        "Put the listen back, or reload nginx so that the running master gives it up, too.",
    ),
    refuse(
        "listener_busy",
        "The new binary would also open {listener}, which can't be had: {why}.",
        "Free it (ss -lnp), or take the listen out.",
    ),
    warn(
        "listener_added",
        "The new binary would also open {listener}; it goes away again on rollback.",
        "Reload first if that matters.",
    ),
    refuse(
        "fewer_workers",
        "{listener} is open {held} times (reuseport), the new binary would open it {opened} times: connections at "
        "the others would be lost.",
        "Set worker_processes to {held}, reload, and try again.",
    ),
    unless_allowed(
        "quic",
        "HTTP/3 is on ({listener}) without `quic_bpf on`: its connections break during the upgrade.",
        "Set `quic_bpf on` and reuseport and restart nginx, or take the host out of the load balancer.",
    ),
    warn(
        "no_error_log",
        "nginx writes no error log that fleet can read ({where}), so the new master is judged without it.",
        "Set `error_log` to a file if you want it judged.",
    ),
    warn(
        "env_lost",
        "nginx (pid {pid}) has {library} loaded by its environment; the new master will run without it, "
        "because nginx clears the environment.",
        "Name it in nginx.conf (`env LD_PRELOAD;`) and restart once, or put it into /etc/ld.so.preload.",
    ),
)

SERVICE = (
    refuse(
        "unit_type",
        "systemd runs nginx (pid {pid}) as {unit} with Type={type}: when the old master leaves, it ends the new one.",
        "Make it Type=forking with PIDFile={pid_file} and daemon on, " + LEAVE_OUT + ".",
    ),
    refuse(
        "unit_pid_file",
        "systemd's {unit} has {has}, but nginx writes {pid_file}: when the old master leaves, it ends the new one.",
        "Set PIDFile={pid_file} in the unit, then: systemctl daemon-reload.",
    ),
    warn(
        "unit_main_pid",
        "systemd's {unit} takes {main} for the main process, but nginx is pid {pid}: `systemctl stop` would not end it "
        "gracefully.",
        "systemctl reload {unit}; if nginx was started by hand, start it through systemd once.",
    ),
    warn(
        "packaged",
        "{path} belongs to the package {package}: its next upgrade will replace the binary and restart nginx.",
        "Hold it: {hold}",
    ),
)

PREFLIGHT = HOST + MASTER + RELEASE + CONFIGURATION + SERVICE
