"""Reasons of systemd: nginx's unit before an upgrade, while the host is held, and which process it follows."""

from fleet.onhost.reasons.reason import LEAVE_OUT, refusal, warning

UNIT = (
    refusal(
        "unit_type",
        "The systemd unit {unit} of nginx (pid {pid}) has Type={type}: systemd would end the new master when the old one "
        "exits.",
        "Set `Type=forking` and `PIDFile={pid_file}` in the unit, remove `daemon off`, and restart it, "
        + LEAVE_OUT
        + ".",
    ),
    refusal(
        "unit_pid_file",
        "The systemd unit {unit} has {has}, but nginx writes {pid_file}: systemd would end the new master when the old "
        "one exits.",
        "Set `PIDFile={pid_file}` in the unit, then run `systemctl daemon-reload`.",
    ),
    refusal(
        "unit_lost",
        "The systemd unit {unit} is masked, or its file is gone: systemd has lost its pid file, and would end nginx when the "
        "old master exits.",
        "Put its file back if that is gone. Then, on the host as root: `{cure}`, and type the command once more.",
    ),
    refusal(
        "unit_main_pid_fixed",
        "The systemd unit {unit} has {main} as its main process, not nginx (pid {pid}), and fleet can't tell systemd of it: "
        "{why}. Until then: {then}.",
        "Correct it on the host as root: `{cure}`. Do not reload, stop or restart the unit before that.",
    ),
    refusal(
        "exec_paths",
        "The file {path} may be executed only through a mount on the file itself, in nginx's own view ({setting}): the new "
        "file there could not be executed.",
        "Name the folder instead (`ExecPaths={folder}`) in the unit, then run `systemctl daemon-reload` and restart nginx "
        "once, " + LEAVE_OUT + ".",
    ),
    warning(
        "unit_main_pid",
        "The systemd unit {unit} has {main} as its main process, but nginx is pid {pid}; the upgrade corrects this before it "
        "begins. Until then: {then}.",
        "To correct it now, on the host as root: `{cure}`.",
    ),
    warning(
        "unit_ended",
        "The systemd unit {unit} has ended ({active}), and nginx (pid {pid}) runs on in its control group: systemd neither "
        "reloads nor stops it, and a start would fail, because the ports are taken.",
        "At a quiet time, end nginx and have its unit start it: `kill -QUIT {pid}`, then `systemctl start {unit}`.",
    ),
    warning(
        "unit_by_hand",
        "The systemd unit {unit} did not start nginx (pid {pid}), which only runs among its processes: a stop of that unit "
        "would end nginx.",
        "Start nginx by its own unit at a quiet time: `nginx -s quit`, then `systemctl start nginx`.",
    ),
    warning(
        "started_by_hand",
        "A person started nginx (pid {pid}) from a login, so no systemd unit owns it ({scope}). {logout}, and a boot does not "
        "start it.",
        "Give it a unit that starts it at boot (`systemctl edit --full --force nginx.service`), at a quiet time.",
    ),
    warning(
        "started_beside_unit",
        "A person started nginx (pid {pid}) from a login, not by its unit {unit} ({scope}). {logout}, and a boot {boot}. "
        "Before that, `systemctl start {unit}` would fail, because the ports are taken, and delete the pid file.",
        "At a quiet time, end nginx and have its unit start it: `kill -QUIT {pid}`, then `systemctl start {unit}`.",
    ),
    warning(
        "guard_impossible",
        "The systemd unit {unit} can't be guarded while it is held, because {why}. Then {then}.",
        "Correct that. Or hold hosts for a short time only: `fleet upgrade RELEASE --commit batch`.",
    ),
    warning(
        "no_guard",
        "The systemd unit {unit} is not guarded while it is held (--no-guard, and {settings}). Then {then}.",
        "Leave `--no-guard` out. Or keep restarts off nginx until the commit: no package upgrades, and no needrestart.",
    ),
    warning(
        "unit_held",
        "The systemd unit {unit} has settings that harm a held nginx ({settings}); fleet's guard prevents it. Without the "
        "guard, {then}.",
        "Nothing to do. See the guard while nginx is held: `systemctl cat {unit}`.",
    ),
    warning(
        "unit_outdated",
        "The files of the systemd unit {unit} have changed since systemd read them; the guard makes systemd read them.",
        "See the change: `systemctl cat {unit}`. To upgrade without that: `--no-guard`.",
    ),
)

CARE = (
    warning(
        "unguarded",
        "The systemd unit {unit} could not be guarded: {why}. While the host is held, {then}.",
        "Keep `systemctl restart`, package upgrades and needrestart off nginx until the commit.",
    ),
    warning(
        "guard_left",
        "The systemd unit {unit} is still guarded, and refuses to stop or restart: {why}. nginx serves.",
        "Remove the guard on the host as root: `{cure}`.",
    ),
    warning(
        "unit_corrected",
        "The systemd unit {unit} had pid {main} as its main process, which is no nginx master; it follows nginx (pid {pid}) "
        "now.",
        "Nothing to do.",
    ),
    warning(
        "unit_main_pid_stale",
        "The systemd unit {unit} has pid {main} as its main process, but nginx is pid {pid}, and systemd could not be told: "
        "{why}. Now {then}.",
        "Correct it on the host as root: `{cure}`. Do not reload, stop or restart the unit before that.",
    ),
    warning(
        "unit_unseen",
        "The systemd unit {unit} could not be asked which process it follows: {why}. nginx serves.",
        "Compare it with pid {pid}: `systemctl show -p MainPID {unit}`. If it differs, correct it as root: `{cure}`.",
    ),
)
