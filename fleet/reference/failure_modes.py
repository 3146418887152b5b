"""What can go wrong with nginx's own upgrade: 44 modes, and by which words a host says each, before and after.

The nginx facts behind them are in docs/nginx-facts.md. Words of preflight find a mode before anything is
changed, the others when it has happened; what fleet then does stands in `reaction`. A mode that no word is needed for
says so there. `docs/reasons.md` shows the table; a test holds every word against the step script's.
"""

from typing import NamedTuple


class Mode(NamedTuple):
    """One failure mode: the words that find it beforehand, the words for when it has happened, and what is done."""

    number: int
    mode: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    reaction: str


def _mode(number: int, mode: str, before: str, after: str, reaction: str) -> Mode:
    return Mode(number, mode, tuple(before.split()), tuple(after.split()), reaction)


MODES = (
    _mode(
        1,
        "the new file is missing or torn",
        "cannot_run binary_missing wrong_architecture release_missing",
        "exec_missing start_crashed swap_unseen wrong_bytes disk_error",
        "The hash is checked after the transfer, after the copy and at the path. The file before is put back; the old "
        "master never stopped serving.",
    ),
    _mode(
        2,
        "other architecture, C library, or a library is missing",
        "wrong_architecture loader_missing library_missing cannot_run",
        "library_missing exec_format",
        "The binary is tried in an empty environment, as nginx would run it. The file before is put back.",
    ),
    _mode(
        3,
        "not executable: mode, noexec, SELinux, IMA",
        "path_noexec state_noexec",
        "exec_denied file_mended",
        "The file gets the owner, mode, labels and capabilities of the image that runs, and USR2 is sent once more.",
    ),
    _mode(
        4,
        "the file is open for writing (ETXTBSY)",
        "",
        "text_busy text_was_busy",
        "fleet makes the file beside the path and renames it; where somebody else writes, it is waited for, once.",
    ),
    _mode(
        5,
        "the new binary rejects the configuration",
        "config_rejected",
        "config_rejected test_too_slow",
        "Tested with the old master's arguments and no environment in preflight, and again right before USR2.",
    ),
    _mode(
        6,
        "a dynamic module does not fit",
        "config_rejected modules_gone paths_moved",
        "module_incompatible",
        "The file before is put back.",
    ),
    _mode(
        7,
        "a new listener's port is taken",
        "listener_busy listener_added",
        "listener_busy",
        "nginx tries for 2.5 s; at least 5 s are waited, and nothing is sent to the old master.",
    ),
    _mode(
        8,
        "the pid file is missing, empty or wrong",
        "pid_file_missing pid_file_empty pid_file_wrong",
        "pid_file_rewritten poisoned_by_rename pid_file_lies",
        "Read before any test. On the way back, and when it goes just before USR2, it is written again; USR2 once more "
        "then cures the poisoned master.",
    ),
    _mode(
        9,
        "the pid file's folder is full or read-only",
        "disk_full no_inodes read_only",
        "pid_dir_full poisoned_by_rename",
        "The old master's pid file comes back by itself; a failed rename poisons it (11).",
    ),
    _mode(
        10,
        "fork fails (process limit, memory)",
        "pids_short memory_short",
        "poisoned_by_fork",
        "The file before is put back and the record remembers the poisoned master (11).",
    ),
    _mode(
        11,
        "poisoned master: a reload adds workers and reads no file",
        "poisoned",
        "poisoned_by_rename poisoned_by_fork still_poisoned workers_doubled",
        "fleet sends it no HUP. `upgrade --allow poisoned` cures it by a new master that comes up; doubled workers become "
        "one set afterwards.",
    ),
    _mode(
        12,
        "supervised, `daemon off`, or pid 1 of a container",
        "supervised daemon_off pid_1 unit_type",
        "usr2_ignored",
        "Such a host is refused: its way is a restart.",
    ),
    _mode(13, "`master_process off`", "master_process_off", "usr2_ignored", "Such a host is refused."),
    _mode(
        14,
        "argv[0] is no absolute path",
        "relative_argv0",
        "exec_missing",
        "Refused: one restart by the absolute path cures it.",
    ),
    _mode(
        15,
        "the master before still drains",
        "previous_master upgrade_in_progress",
        "usr2_ignored drain_pending",
        "Refused until it is gone; nothing is sent meanwhile.",
    ),
    _mode(
        16,
        "stale `.oldbin`, or a pid that is somebody else's by now",
        "",
        "stale_oldbin process_gone",
        "Masters are found among the processes, by parent and image; every signal is checked against the start time. A "
        "stale `.oldbin` is swept.",
    ),
    _mode(
        17,
        "pid, configuration or prefix differ between the builds",
        "paths_moved pending_config",
        "other_pid_file",
        "The new master is found by its parent and dismissed; the file that it wrote is named.",
    ),
    _mode(
        18,
        "slow start: big configuration, names to resolve",
        "",
        "launch_slow test_too_slow",
        "The deadline is three times the configuration test and 5 s.",
    ),
    _mode(
        19,
        "the new workers crash in a loop",
        "",
        "workers_crash workers_changed",
        "The new master gets TERM at once, before its log fills the disk; the old one never stopped serving.",
    ),
    _mode(
        20,
        "the new workers give up, or there are none",
        "",
        "workers_fatal workers_missing",
        "Dismissed: QUIT, after a second TERM.",
    ),
    _mode(
        21,
        "the new workers hang",
        "",
        "workers_hang workers_silent",
        "Only an answer of a worker of the new master counts. Dismissed: QUIT, TERM, KILL.",
    ),
    _mode(
        22,
        "the new master is stopped or hangs",
        "",
        "new_master_hangs new_master_woken new_master_killed new_master_died",
        "CONT, then QUIT; if it does not hear, KILL, and each of its recorded workers is told to quit.",
    ),
    _mode(
        23,
        "a listener dropped, or fewer reuseport sockets",
        "listener_missing fewer_workers",
        "listeners_uncovered",
        "Every listening socket of the old master must be held by a new worker before WINCH.",
    ),
    _mode(
        24,
        "a UNIX listener is gone from the configuration",
        "listener_missing",
        "listeners_uncovered",
        "Refused: no rollback would bring the socket back.",
    ),
    _mode(
        25,
        "WINCH to the wrong or only master",
        "",
        "new_not_serving nobody_accepted",
        "fleet sends WINCH only while a new worker accepts. Somebody else's is answered by HUP to a master that holds "
        "its sockets.",
    ),
    _mode(
        26,
        "HUP twice, or too early",
        "",
        "workers_doubled workers_normal workers_left_doubled",
        "Workers are counted before each HUP. Once the new master is gone one reload makes one set, after a test and "
        "unless a change of the configuration is only pending.",
    ),
    _mode(
        27,
        "WINCH and HUP coalesced",
        "",
        "winch_put_off drain_unseen",
        "USR1 makes the pending WINCH happen while the new master serves; going back, the old one is revived after it.",
    ),
    _mode(
        28,
        "QUIT to the new master without a HUP before",
        "",
        "old_not_serving nobody_accepted",
        "fleet revives first and sees an answer. Where somebody else did it, the old master is revived at once.",
    ),
    _mode(
        29,
        "TERM or KILL to the new master under load",
        "",
        "connections_cut orphans_ended orphans_left new_master_killed",
        "What is cut is counted; orphans are known by the sockets they hold, and told to quit each.",
    ),
    _mode(
        30,
        "QUIT to the old master before the new one is ready",
        "",
        "new_not_serving down",
        "fleet sends it only while a new worker accepts. Where no master is left, the exact start command is given, and "
        "the file before is at the path.",
    ),
    _mode(
        31,
        "the old master drains for hours",
        "",
        "drain_pending connections_cut",
        "Held and undoable meanwhile; `--cut` or a longer `--drain-timeout` decides.",
    ),
    _mode(
        32,
        "a regression is found after the commit",
        "",
        "",
        "No word is needed: `fleet rollback` is the same upgrade, forward, with the kept binary.",
    ),
    _mode(
        33,
        "the kept binary is lost",
        "",
        "release_rescued release_lost",
        "Its bytes are taken from any process that still runs it.",
    ),
    _mode(
        34,
        "a keep-alive connection is reset",
        "",
        "",
        "No word is needed: it is what any reload does. `keepalive_min_timeout` (nginx 1.27.4 and newer) avoids it.",
    ),
    _mode(35, "HTTP/3 without `quic_bpf`", "quic", "", "Refused unless allowed: take such hosts out of the balancer."),
    _mode(
        36,
        "reload, certificate hook or log rotation in mid-upgrade",
        "pending_config",
        "old_revived config_not_reloaded log_rotated log_reopened log_not_reopened workers_doubled winch_put_off",
        "Seen in the bake and after going back: the old master loads what was reloaded while it was held, and opens the "
        "new log.",
    ),
    _mode(
        37,
        "restart or stop from outside in mid-upgrade",
        "",
        "went_back restarted_meanwhile down foreign",
        "The host is looked at afresh: it is where it is. A host that went back is never marched forward again.",
    ),
    _mode(
        38,
        "a systemd unit without the right PIDFile=",
        "unit_pid_file unit_type",
        "",
        "Refused: systemd would end the new master with the old one.",
    ),
    _mode(
        39,
        "systemd's main process is stale after a rollback",
        "unit_main_pid",
        "unit_main_pid_stale",
        "Compared after each way back; one `systemctl reload` cures it.",
    ),
    _mode(
        40,
        "the package manager upgrades nginx by itself",
        "package_lock packaged",
        "swap_unseen went_back",
        "Refused while its lock is held; a package that owns the binary is named, with the command that holds it.",
    ),
    _mode(
        41,
        "file capabilities or the label are lost",
        "",
        "exec_denied file_mended",
        "Owner, mode, ACL, label and capabilities are copied, in the order that keeps them, before the rename.",
    ),
    _mode(
        42,
        "the environment is lost (LD_PRELOAD, Environment=)",
        "env_lost",
        "library_missing",
        "nginx clears it; so every test is made without it, too.",
    ),
    _mode(
        43,
        "a log rotation reached only the new master",
        "",
        "log_rotated log_reopened log_not_reopened",
        "USR1 to the old master once it is alone again, and its effect is waited for.",
    ),
    _mode(
        44,
        "only orphans are left",
        "no_master",
        "orphans_only orphans_ended",
        "They are left serving; the commands to end them and to start nginx are given, in that order.",
    ),
)
