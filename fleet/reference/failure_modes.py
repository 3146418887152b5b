"""The failure modes of nginx's own upgrade, and the reasons by which fleet reports each.

The nginx facts behind them are in docs/nginx-facts.md. The words of `before` are preflight's, those of `after` report a
mode that has happened; `reaction` says what fleet does, and why no word is needed where there is none. `docs/reasons.md`
shows the table; a test checks every word.
"""

from typing import NamedTuple


class FailureMode(NamedTuple):
    """One failure mode: the reasons before and after it has happened, and what fleet does."""

    number: int
    mode: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    reaction: str


def _mode(number: int, mode: str, before: str, after: str, reaction: str) -> FailureMode:
    return FailureMode(number, mode, tuple(before.split()), tuple(after.split()), reaction)


MODES = (
    _mode(
        1,
        "the new file is missing or damaged",
        "cannot_run binary_missing wrong_architecture release_missing",
        "exec_missing start_crashed swap_unseen wrong_bytes disk_error",
        "fleet checks the hash after the transfer, after the copy and at the path. It puts the old file back; the old "
        "master never stopped serving.",
    ),
    _mode(
        2,
        "wrong architecture or C library, or a library is missing",
        "wrong_architecture loader_missing library_missing cannot_run",
        "library_missing exec_format",
        "Preflight runs the binary for `-V` in an empty environment, and rehearses its start. After a failed launch fleet "
        "puts the old file back.",
    ),
    _mode(
        3,
        "not executable: mode, noexec, SELinux, IMA",
        "path_noexec state_noexec",
        "exec_denied file_mended",
        "fleet gives the file the owner, mode, labels and capabilities of the running image and sends USR2 once more.",
    ),
    _mode(
        4,
        "the file is open for writing (ETXTBSY)",
        "",
        "text_busy text_was_busy",
        "fleet writes a file beside the path and renames it, so it never holds the path open. If another program does, "
        "fleet waits up to 15 s, once.",
    ),
    _mode(
        5,
        "the new binary rejects the configuration",
        "config_rejected rehearsal_inconclusive old_would_not_start",
        "config_rejected",
        "The rehearsal shows it. A USR2 that fails leaves the old master serving; fleet puts the old file back.",
    ),
    _mode(
        6,
        "a dynamic module does not fit",
        "config_rejected modules_gone paths_moved",
        "module_incompatible",
        "fleet puts the old file back.",
    ),
    _mode(
        7,
        "the port of a new listener is taken",
        "listener_busy listener_added",
        "listener_busy",
        "nginx tries for 2.5 s; fleet waits at least 5 s and sends nothing to the old master.",
    ),
    _mode(
        8,
        "the pid file is missing, empty or wrong",
        "pid_file_missing pid_file_empty pid_file_wrong",
        "pid_file_rewritten poisoned_by_rename pid_file_lies",
        "fleet reads it before any signal. On the way back, and if it disappears just before USR2, fleet writes it again; a "
        "second USR2 then cures the poisoned master.",
    ),
    _mode(
        9,
        "the pid file's folder is full or read-only",
        "disk_full no_inodes read_only",
        "pid_dir_full poisoned_by_rename",
        "nginx restores the old master's pid file by itself; a failed rename poisons the master (11).",
    ),
    _mode(
        10,
        "fork fails (process limit, memory)",
        "pids_short memory_short",
        "poisoned_by_fork",
        "fleet puts the old file back and records the poisoned master (11).",
    ),
    _mode(
        11,
        "poisoned master: a reload adds workers and reads no file",
        "poisoned",
        "poisoned_by_rename poisoned_by_fork still_poisoned workers_doubled",
        "fleet sends it no HUP. `upgrade --allow poisoned` cures it with a new master that comes up; fleet then restores "
        "one set of workers.",
    ),
    _mode(
        12,
        "supervised, `daemon off`, or pid 1 of a container",
        "supervised daemon_off pid_1 unit_type",
        "usr2_ignored",
        "fleet refuses such a host: it needs a restart instead.",
    ),
    _mode(
        13,
        "`master_process off`",
        "master_process_off",
        "usr2_ignored",
        "fleet refuses such a host.",
    ),
    _mode(
        14,
        "argv[0] is not an absolute path",
        "relative_argv0",
        "exec_missing",
        "fleet refuses; one restart by the absolute path is the cure.",
    ),
    _mode(
        15,
        "the previous master still drains",
        "previous_master upgrade_in_progress",
        "usr2_ignored drain_pending",
        "fleet refuses until it has exited, and sends nothing until then.",
    ),
    _mode(
        16,
        "stale `.oldbin`, or its pid belongs to another process by now",
        "",
        "stale_oldbin process_gone",
        "fleet finds masters among the processes, by parent and image, and checks the start time before every signal. It "
        "removes a stale `.oldbin`.",
    ),
    _mode(
        17,
        "pid file, configuration or prefix differ between the builds",
        "paths_moved pending_config pid_file_moved",
        "other_pid_file",
        "fleet finds the new master by its parent, dismisses it, and names the file that it wrote.",
    ),
    _mode(
        18,
        "slow start: large configuration, names to resolve, a FIFO in place of a file",
        "fifo_blocks",
        "launch_slow",
        "fleet waits as long as the new process lives, at most 65 s, and then dismisses it.",
    ),
    _mode(
        19,
        "the new workers crash in a loop",
        "workers_crash",
        "workers_crash workers_changed",
        "fleet sends TERM to the new master at once, before its log fills the disk; the old master never stopped serving.",
    ),
    _mode(
        20,
        "the new workers give up, or there are none",
        "workers_fatal workers_missing",
        "workers_fatal workers_missing",
        "fleet dismisses the new master: QUIT, then TERM.",
    ),
    _mode(
        21,
        "the new workers hang",
        "answers_differ",
        "workers_hang workers_silent",
        "Only an answer from a worker of the new master counts. fleet dismisses it: QUIT, TERM, KILL.",
    ),
    _mode(
        22,
        "the new master is stopped or hangs",
        "",
        "new_master_hangs new_master_woken new_master_killed new_master_died",
        "fleet sends CONT, then QUIT; if the master does not react, KILL, and QUIT to each of its recorded workers.",
    ),
    _mode(
        23,
        "a listener is lost, or there are fewer reuseport sockets",
        "listener_missing fewer_workers",
        "listeners_uncovered",
        "Before WINCH, a new worker must hold every listening socket of the old master.",
    ),
    _mode(
        24,
        "a UNIX listener is gone from the configuration",
        "listener_missing",
        "listeners_uncovered",
        "fleet refuses: no rollback could restore the socket.",
    ),
    _mode(
        25,
        "WINCH reaches the wrong master, or the only one",
        "",
        "new_not_serving nobody_accepted",
        "fleet sends WINCH only while a new worker accepts. After a WINCH from outside it sends HUP to a master that "
        "holds its sockets.",
    ),
    _mode(
        26,
        "HUP twice, or too early",
        "",
        "workers_doubled workers_normal workers_left_doubled",
        "fleet counts workers before each HUP. Once the new master is gone, one reload restores one set of workers, but "
        "only if no configuration change is pending.",
    ),
    _mode(
        27,
        "WINCH and HUP coalesce",
        "",
        "winch_put_off drain_unseen",
        "USR1 makes the pending WINCH happen while the new master serves; on the way back the old master is revived after "
        "it.",
    ),
    _mode(
        28,
        "QUIT to the new master without a HUP to the old one before",
        "",
        "old_not_serving nobody_accepted",
        "fleet revives first and waits for an answer. If it was sent from outside, fleet revives the old master at once.",
    ),
    _mode(
        29,
        "TERM or KILL to the new master under load",
        "",
        "connections_cut orphans_ended orphans_left new_master_killed",
        "fleet counts the connections that are cut, finds orphaned workers by the sockets they hold, and sends each QUIT.",
    ),
    _mode(
        30,
        "QUIT to the old master before the new one is ready",
        "",
        "new_not_serving down",
        "fleet sends it only while a new worker accepts. If no master is left, fleet prints the exact start command, and "
        "the old file is at the path.",
    ),
    _mode(
        31,
        "the old master drains for hours",
        "",
        "drain_pending connections_cut left_to_host",
        "The host stays held, and you can still go back; `--cut`, a longer `--drain-timeout` or `--when-drained` decides.",
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
        "fleet copies it from any process that still runs it.",
    ),
    _mode(
        34,
        "a keep-alive connection is reset",
        "",
        "",
        "No word is needed: any reload does this. `keepalive_min_timeout` (nginx 1.27.4 and newer) avoids it.",
    ),
    _mode(
        35,
        "HTTP/3 without `quic_bpf`",
        "quic",
        "",
        "fleet refuses unless allowed: take such hosts out of the load balancer.",
    ),
    _mode(
        36,
        "reload, certificate hook or log rotation during the upgrade",
        "pending_config",
        "old_revived config_not_reloaded log_rotated log_reopened log_not_reopened workers_doubled winch_put_off",
        "The bake and the end of a rollback notice it: the old master loads what was reloaded while it was held, and "
        "opens the new log.",
    ),
    _mode(
        37,
        "restart or stop from outside during the upgrade",
        "guard_impossible no_guard unit_held unit_outdated",
        "unguarded guard_left went_back restarted_meanwhile down foreign",
        "Where systemd runs, a guard makes it refuse them while two masters live (docs/systemd.md). Every visit starts with a "
        "fresh look. A host that went back is never moved forward again by a bake or a commit.",
    ),
    _mode(
        38,
        "a systemd unit without the right PIDFile=, or one in which the new file can't be executed",
        "unit_pid_file unit_type unit_lost unit_by_hand started_by_hand started_beside_unit exec_paths",
        "",
        "fleet refuses: systemd would end the new master together with the old one, or no new master would start.",
    ),
    _mode(
        39,
        "systemd's main process is not the serving master",
        "unit_main_pid unit_main_pid_fixed unit_ended",
        "unit_corrected unit_main_pid_stale unit_unseen",
        "fleet tells systemd of the old master before the new one ends, and compares at the end of each visit that may act.",
    ),
    _mode(
        40,
        "the package manager upgrades nginx by itself",
        "package_lock packaged package_upgrade_comes package_run_now",
        "package_not_held swap_unseen went_back image_deleted path_changed path_left committed_elsewhere",
        "fleet refuses while the package manager's lock is held, and names what may upgrade the binary; `--hold-package` "
        "holds it. A package's file is not overwritten unasked. needrestart finds the old binary's name, and lets it run.",
    ),
    _mode(
        41,
        "file capabilities or the label are lost",
        "",
        "exec_denied file_mended",
        "fleet copies owner, mode, ACL, label and capabilities before the rename, in the order that keeps them.",
    ),
    _mode(
        42,
        "the environment is lost (LD_PRELOAD, Environment=)",
        "env_lost",
        "library_missing",
        "nginx clears the environment, so fleet makes every test without it, too.",
    ),
    _mode(
        43,
        "a log rotation reached only the new master",
        "",
        "log_rotated log_reopened log_not_reopened",
        "fleet sends USR1 to the old master once it is alone again, and waits for the effect.",
    ),
    _mode(
        44,
        "only orphaned workers are left",
        "no_master",
        "orphans_only orphans_ended",
        "fleet leaves them serving, and prints the commands that end them and start nginx, in that order.",
    ),
    _mode(
        45, "a library keeps signals from nginx", "signals_unheard signal_pending", "usr2_pending", "fleet sends none."
    ),
)
