"""The catalogue is the only source of texts, and every text has one form: a fact first, then what to type."""

import ast
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import fleet.onhost
from fleet.onhost.protocol import Severity
from fleet.onhost.reasons.catalogue import (
    EVERY,
    REASONS,
    apply_allowed,
    finding,
    limit_per_word,
    option_word,
    overridable_words,
)
from fleet.onhost.reasons.reason import Kind, Reason
from fleet.reference.run_reasons import RUN
from fleet.ssh.reasons import WORDS

FOLDER = Path(fleet.onhost.__file__).parent
TABLES = FOLDER / "reasons"
SOURCES = {
    path.relative_to(FOLDER).as_posix(): path.read_text()
    for path in sorted(FOLDER.rglob("*.py"))
    if path.parent != TABLES
}
EVERY_REASON = pytest.mark.parametrize("reason", EVERY, ids=lambda reason: reason.word)

# The calls that take a word and its facts, and the position of the word among the arguments.
TAKES_FACTS = {"finding": 0, "StepFailed": 0, "StepRefused": 0, "TurnedBack": 0, "Cause": 0, "warn": 0, "ended": 1}
# The calls that fill in a reply by hand: only with the word of a finding, never with one of their own.
TAKES_TEXT = {"End": 1, "Finding": 0}

# Facts as the code gives them, by name; a word with other facts of that name has its own.
FACTS: Mapping[str, object] = {
    "advice": "if its `listen` has `proxy_protocol`, add `proxy_protocol: true` to the probe",
    "cure": "NOTIFY_SOCKET=/run/systemd/notify systemd-notify --pid=812",
    "compared": "The running release wrote none like them in 12 KiB of its log (2026/11/23 09:00:00 to 2026/11/23 10:00:00)",
    "command": "`/usr/sbin/nginx -c /etc/nginx/nginx.conf`",
    "error": OSError(28, "No space left on device", "/var/lib/fleet/instances/1f/record.json"),
    "files": "/etc/nginx/conf.d/site.conf (2026-11-23 09:12:44)",
    "folder": "/var/lib/fleet",
    "has": 8,
    "held": 4,
    "limit": "/sys/fs/cgroup/system.slice/nginx.service/pids.max",
    "line": 'execve() failed while executing new binary process "/usr/sbin/nginx" (13: Permission denied)',
    "lines": "2026/11/23 10:00:01 [alert] 812#812: worker process 815 exited on signal 11",
    "listener": "0.0.0.0:443",
    "listeners": "127.0.0.1:8080, unix:/run/nginx.sock",
    "mount": "/var",
    "number": 0,
    "opened": 2,
    "path": "/usr/sbin/nginx",
    "pattern": "log-line='setrlimit(RLIMIT_NOFILE, *) failed (1: Operation not permitted)'",
    "paths": "/var/log/nginx/access.log",
    "pid": 812,
    "pids": "813, 814",
    "signals": "CHLD (ignored), USR2 (blocked)",
    "sha256": "1a2b3c4d5e6f",
    "settings": "KillMode=process, TimeoutStopSec=1min30s",
    "then": "`systemctl restart` would end both masters and start the file at the path, the new release",
    "title": "nginx: master process /usr/sbin/nginx",
    "problem": "http://127.0.0.1/health: answered 502 instead of 200, from worker 815",
    "unit": "nginx.service",
    "waited": 15.0,
    "why": "its file system is mounted read-only",
    "wanted": 4,
}
MISFIT = {
    "module": "/usr/lib/nginx/modules/ngx_http_geoip_module.so",
    "why": "it is for nginx 1.26.2, and the new binary is 1.26.3",
    "cure": "Put the file that was built together with the new binary there: copy it, then rename it over (`mv`)",
}
OWN_FACTS: Mapping[str, Mapping[str, object]] = {
    "psutil_missing": {
        "python": "/usr/bin/python3",
        "why": "the bundle's: not for musl; the host's own: No module named 'psutil'",
    },
    "no_root": {"uid": 1000},
    "read_only": {"what": "the new binary"},
    "disk_full": {"free": "1.2 MiB", "need": "24.0 MiB", "what": "the copies in fleet's state folder"},
    "no_inodes": {"free": 3, "need": 16},
    "memory_short": {
        "where": "the host",
        "free": "80.0 MiB",
        "need": "210.5 MiB",
        "limit": "MemAvailable in /proc/meminfo",
    },
    "pids_short": {"where": "the control group of nginx", "free": 2, "need": 9},
    "package_lock": {"title": "apt-get upgrade", "path": "/var/lib/dpkg/lock"},
    "no_master": {"named": " (the pid file /run/nginx.pid names none)"},
    "several_masters": {"masters": "pid 812, pid 900"},
    "upgrade_in_progress": {
        "whose": "rollout 20261123-1 by anna@desk, since 2026-11-23T10:00:00Z",
        "finish": "`fleet commit 20261123-1`",
        "undo": "`fleet rollback 20261123-1`",
    },
    "previous_master": {"older": 700},
    "pid_file_wrong": {"held": "4711", "path": "/run/nginx.pid"},
    "supervised": {"parent": "supervisord", "ppid": 90},
    "daemon_off": {"parent": "tini", "ppid": 1},
    "relative_argv0": {"program": "nginx"},
    "signal_pending": {"signals": "USR2"},
    "usr2_pending": {"why": "USR2 is blocked there"},
    "poisoned": {"evidence": "fleet's record of it"},
    "other_root": {"why": "its root is /srv/chroot"},
    "pid_file_fixed": {
        "cure": "`umount -l /run/nginx.pid && echo 812 > /run/nginx.pid`",
        "why": "it is a mount point of its own",
    },
    "not_replaceable": {"cure": "`chattr -i /usr/sbin/nginx`", "why": "it is immutable"},
    "path_differs": {"file": "aaaa11112222", "running": "bbbb33334444"},
    "shared_binary": {"other": 900},
    "wrong_architecture": {"release": "built for aarch64, 64 bit", "running": "x86_64, 64 bit"},
    "loader_missing": {"loader": "/lib/ld-musl-x86_64.so.1"},
    "library_missing": {
        "line": "error while loading shared libraries: libpcre2-8.so.0: cannot open shared object file"
    },
    "cannot_run": {"how": "was ended by signal 4"},
    "other_server": {"release": "Tengine", "running": "lighttpd"},
    "config_rejected": {
        "binary": "the new binary",
        "line": 'nginx: [emerg] unknown directive "quic_gso" in /etc/nginx/nginx.conf:12',
    },
    "module_mismatch": {**MISFIT, "binary": "the new binary"},
    "module_incompatible": MISFIT,
    "paths_moved": {"paths": "--prefix was /etc/nginx, is /usr/local/nginx", "how": "or restart nginx once with -p"},
    "build_differs": {"options": "--user was www-data, is nobody"},
    "modules_gone": {"modules": "with-http_v2_module, http_gzip_module"},
    "started_by_hand": {"scope": "session-5.scope", "logout": "It outlives that login"},
    "started_beside_unit": {
        "scope": "session-5.scope",
        "logout": "It ends when that login ends",
        "boot": "starts nginx.service",
    },
    "not_checked": {"what": "the disks", "why": "PermissionError: [Errno 13] Permission denied: '/run'"},
    "pending_config": {"loaded": "2026-11-20 08:00:00"},
    "listener_busy": {"why": "Address already in use"},
    "no_error_log": {"where": "error_log syslog:server=10.0.0.1"},
    "env_lost": {"variables": "LD_PRELOAD"},
    "answers_differ": {"answers": "tcp 0.0.0.0:80 gives 500 instead of 200"},
    "unit_type": {"type": "simple", "pid_file": "/run/nginx.pid"},
    "unit_pid_file": {"has": "no PIDFile=", "pid_file": "/run/nginx.pid"},
    "unit_lost": {"cure": "systemctl unmask nginx.service"},
    "unit_ended": {"active": "failed"},
    "unit_main_pid": {"main": "pid 700"},
    "unit_main_pid_fixed": {"main": "pid 700", "why": "there is no /run/systemd/notify"},
    "exec_paths": {"setting": "NoExecPaths=, ExecPaths=/usr/sbin/nginx", "folder": "/usr/sbin"},
    "guard_impossible": {"why": "/run/systemd/system can't be written"},
    "guard_left": {
        "why": "`systemctl daemon-reload`: (no end after 10 s)",
        "cure": "rm /run/x && systemctl daemon-reload",
    },
    "unguarded": {"why": "`systemctl daemon-reload`: (no end after 10 s)"},
    "unit_corrected": {"main": 700},
    "unit_unseen": {"why": "`systemctl show`: (no end after 4 s)"},
    "packaged": {"package": "nginx-core", "version": "1.22.1-9+deb12u9", "hold": "apt-mark hold nginx-core"},
    "package_not_held": {"command": "apt-mark hold nginx", "error": "E: Could not get lock /var/lib/dpkg/lock"},
    "package_still_held": {"command": "apt-mark unhold nginx", "error": "E: Could not get lock /var/lib/dpkg/lock"},
    "package_upgrade_comes": {
        "package": "nginx",
        "by": "unattended-upgrades",
        "change": "1.22.1-9+deb12u8 is installed, and 1.22.1-9+deb12u9 is offered",
        "hold": "apt-mark hold nginx",
    },
    "package_run_now": {"package": "nginx", "unit": "apt-daily-upgrade.service", "hold": "apt-mark hold nginx"},
    "committed_elsewhere": {"by": "the package nginx 1.22.1-9+deb12u9, installed 2026-11-23 10:00:05 UTC"},
    "path_changed": {"file": "the file of package nginx 1.22.1-9+deb12u9"},
    "path_left": {"file": "1a2b3c4d5e6f, a file of no package"},
    "not_two_masters": {"found": 1},
    "pid_file_rewritten": {"held": "no pid", "path": "/run/nginx.pid"},
    "probe_fails_on_both": {"other": "http://127.0.0.1/health: answered 502 instead of 200, from worker 813"},
    "probe_no_evidence": {"other": "http://127.0.0.1/health: answered 502 instead of 200, from worker 813"},
    "start_crashed": {"signal": 11, "when": "tested the configuration"},
    "other_pid_file": {"other": "/usr/local/nginx/logs/nginx.pid", "path": "/run/nginx.pid"},
    "launch_failed": {"line": "it exited at once, and its log has no reason"},
    "usr2_ignored": {"line": "its log has no reason"},
    "new_master_hangs": {"state": "T"},
    "processors_changed": {"processors": 2, "has": 4},
    "left_to_host": {"old": "2 old workers", "within": 86400.0},
    "workers_missing": {"has": 2},
    "workers_hang": {"count": 4},
    "new_not_serving": {"when": " after the old workers were drained"},
    "connections_cut": {"count": 12, "whose": "old"},
    "pid_file_lies": {"held": 700, "path": "/run/nginx.pid"},
    "new_master_killed": {"workers": "815, 816"},
    "sweep_unseen": {"names": "/run/nginx.pid.oldbin, worker 813"},
    "workers_normal": {"count": 4},
    "config_not_reloaded": {"why": 'the old release rejects it: [emerg] unknown directive "quic_gso"'},
    "workers_left_doubled": {"why": "/etc/nginx/nginx.conf (2026-11-23 09:12:44) changed since it was loaded"},
    "unit_main_pid_stale": {"main": 900, "why": "it does not take pid 812 for the main process"},
    "foreign": {"why": "pid 812 runs aaaa11112222, pid 900 runs bbbb33334444"},
    "went_back": {
        "phase": "OLD",
        "cause": "its lease ran out, neither renewed nor committed by 2026-11-23T10:00:00Z",
        "journal": "/var/lib/fleet/instances/1f/journal.jsonl",
    },
    "no_end": {"moves": 40},
    "failed_to_go_back": {
        "serving": "New connections are served by master pid 900 (bbbb33334444)",
        "worse": "The old master (pid 812) has no accepting worker 15 s after HUP. The new master was left alone.",
        "first": "The new release logged errors: [emerg] bad.",
        "remedy": "Do not stop the new master.",
    },
    "orphans_only": {"pids": "813 814"},
    "process_gone": {"error": "process 812 (started at tick 99) is gone"},
    "other_rollout": {"whose": "its record names rollout 20261123-1 by anna@desk (2026-11-23T10:00:00Z)"},
    "taken_over": {"by": "bob@couch has it since 2026-11-23T10:00:00Z (rollout 20261123-2)"},
    "claimed": {"by": "rollout 20261123-2 by bob@couch (pid 41 on couch), since 10:00, last contact 10:04"},
    "busy": {"holder": "step script with pid 4711"},
    "lease_not_renewed": {"left": 240.0},
    "controller_gone": {"how": "it has sent nothing for 6 s"},
    "wrong_bytes": {"error": "/var/lib/fleet/releases/1a/nginx.part.gz: got aaaa, expected bbbb"},
    "bad_record": {"error": "/var/lib/fleet/instances/1f/record.json can't be read, or is empty"},
    "bad_request": {"error": "not JSON: Expecting value: line 1 column 1 (char 0)"},
    "protocol": {"theirs": 1, "ours": 2},
    "bug": {"error": "KeyError: 'pid'"},
}

# Words that say nothing to do, or that nginx's, OpenSSH's and kubectl's manuals would not use.
BANNED = re.compile(
    r"\b(ask again|somebody|nobody|whoever|who|one that|any more|gone on with|look who|look what|look into|by what"
    r"|put right|try again|mend|ask whoever)\b|\(s\)",
    re.IGNORECASE,
)


class Named(NamedTuple):
    """A place in the code that names a word, and the facts it gives; `None` when they come as a dictionary."""

    where: str
    how: str
    word: str
    facts: frozenset[str] | None


def named() -> Iterator[Named]:
    """Every place in the step script where a literal word is raised, warned of, found or ended with."""
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                yield from _named(name, node)


def _named(name: str, call: ast.Call) -> Iterator[Named]:
    how = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    position = {**TAKES_FACTS, **TAKES_TEXT}.get(how)
    if position is None or len(call.args) <= position:
        return
    given = [keyword.arg for keyword in call.keywords]
    if how == "Cause" and isinstance(call.args[1], ast.Dict):
        given = [word for key in call.args[1].keys if key is not None for word in _literals(key)]
    facts = None if None in given or how in TAKES_TEXT else frozenset(str(one) for one in given)
    for word in _literals(call.args[position]):
        yield Named(f"{name}:{call.lineno}", how, word, facts)


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.IfExp):
        yield from (*_literals(node.body), *_literals(node.orelse))


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def needed(reason: Reason) -> set[str]:
    return fields(reason.meaning) | fields(reason.remedy)


def filled(reason: Reason) -> tuple[str, str]:
    """Message and remedy with facts as the code gives them."""
    known = {**FACTS, **OWN_FACTS.get(reason.word, {})}
    found = finding(reason.word, **{name: known[name] for name in needed(reason)})
    return found.message, found.remedy


# The form


@EVERY_REASON
def test_a_message_is_whole_sentences_and_puts_the_fact_first(reason: Reason) -> None:
    message, _ = filled(reason)

    assert reason.meaning.partition(" ")[0].isalpha() or reason.meaning.startswith("HTTP/3 "), (
        "starts with a plain word"
    )
    assert message[0].isupper()
    assert message.endswith(".")
    assert not re.search(r"\.\.|\s\.|\s\s|: *\.|; [A-Z][a-z]", message)


@EVERY_REASON
def test_a_message_says_more_than_the_error_it_quotes(reason: Reason) -> None:
    own = re.sub(r"\{[^}]*\}", "", reason.meaning)

    assert len(own.split()) >= 4


@EVERY_REASON
def test_a_remedy_is_a_command_or_names_what_to_edit(reason: Reason) -> None:
    _, remedy = filled(reason)

    assert remedy[0].isupper()
    assert remedy.endswith(".")
    assert remedy.count("`") % 2 == 0
    assert not re.search(r"\.\.|\s\.|\s\s|``|; [A-Z][a-z]", remedy)
    if reason.kind in (Kind.REFUSAL, Kind.FAILURE) and reason.word != "failed_to_go_back":
        assert "`" in remedy
    elif "Nothing to do" not in remedy:
        assert re.search(r"`|--[a-z]|Find out", remedy)


@EVERY_REASON
def test_a_text_uses_none_of_the_words_that_leave_a_reader_alone(reason: Reason) -> None:
    own = re.sub(r"\{[^}]*\}", "", reason.meaning + " " + reason.remedy)

    assert BANNED.findall(own) == []


@pytest.mark.parametrize("word", [*WORDS, *RUN])
def test_a_meaning_of_the_controller_is_a_sentence_of_the_same_form(word: str) -> None:
    meaning = {**WORDS, **RUN}[word]

    assert meaning[0].isupper()
    assert meaning.endswith(".")
    assert BANNED.findall(meaning) == []


def test_the_facts_of_these_tests_are_those_that_the_words_need() -> None:
    assert set(OWN_FACTS) <= set(REASONS)
    assert [word for word, facts in OWN_FACTS.items() if not set(facts) <= needed(REASONS[word])] == []


def test_a_fact_that_ends_with_a_full_stop_leaves_only_one() -> None:
    found = finding("launch_failed", line="it exited.")

    assert found.message.startswith("The new master did not start: it exited. The old master")


def test_an_error_of_the_system_has_a_message_in_words() -> None:
    where = "/var/lib/fleet/record.json"
    full = finding("host_io", error=OSError(28, "No space left on device", where))
    late = finding("host_io", error=OSError("timed out"))

    assert full.message == f"A file on the host could not be read or written: No space left on device ({where})."
    assert late.message == "A file on the host could not be read or written: timed out."


# The words and the code


def test_no_word_has_two_meanings() -> None:
    assert [word for word, count in Counter(reason.word for reason in EVERY).items() if count > 1] == []
    assert [text for text, count in Counter(reason.meaning for reason in EVERY).items() if count > 1] == []
    assert [reason.word for reason in EVERY if not re.fullmatch(r"[a-z][a-z0-9_]*", reason.word)] == []


def test_every_word_that_the_step_script_names_is_in_the_catalogue() -> None:
    assert [one for one in named() if one.word not in REASONS] == []


def test_no_word_is_sent_with_a_text_of_its_own() -> None:
    """So `docs/reasons.md` has the text that is printed: a reply takes word, message and remedy from a finding."""
    assert [one for one in named() if one.how in TAKES_TEXT] == []
    by_hand = re.compile(r"reason=\"|reason='")
    assert [name for name, text in SOURCES.items() if by_hand.search(text)] == []


def test_every_place_that_names_a_word_gives_just_its_facts() -> None:
    """A missing fact would raise `KeyError` only when the reason is given."""
    wrong = [
        (one, needed(REASONS[one.word]))
        for one in named()
        if one.facts is not None and one.word in REASONS and one.facts != needed(REASONS[one.word])
    ]

    assert wrong == []


@EVERY_REASON
def test_every_reason_is_one_that_the_code_can_give(reason: Reason) -> None:
    assert f'"{reason.word}"' in "".join(SOURCES.values())


def test_a_reason_of_a_warning_has_its_severity_and_a_reason_that_ends_a_visit_has_none() -> None:
    warned = {one.word for one in named() if one.how == "warn"}
    notes = {reason.word for reason in EVERY if reason.kind is Kind.NOTE}

    assert [word for word in warned if REASONS[word].severity is not Severity.WARNING] == []
    assert notes <= {one.word for one in named() if one.how == "ended"}


# What `--allow` makes of a refusal


def test_a_refusal_that_may_be_allowed_says_how() -> None:
    (found,) = apply_allowed((finding("quic", listener="0.0.0.0:443 udp"),), ())

    assert found.severity is Severity.REFUSAL
    assert found.remedy.endswith("Or accept the risk with `--allow quic`.")


@pytest.mark.parametrize("written", ["pending-config", "pending_config"])
def test_an_allowed_refusal_is_a_warning_that_says_so(written: str) -> None:
    (found,) = apply_allowed((finding("pending_config", loaded="-", files="-", pid=1),), (written,))

    assert found.severity is Severity.WARNING
    assert found.message.endswith(". Allowed by `--allow pending-config`.")


def test_a_finding_that_is_not_overridable_stays_a_refusal_whatever_is_allowed() -> None:
    (found,) = apply_allowed((finding("pid_1"),), ("pid_1",))

    assert found.severity is Severity.REFUSAL
    assert "--allow" not in found.remedy


def test_only_refusals_are_overridable() -> None:
    words = {option_word(reason.word) for reason in REASONS.values() if reason.overridable}

    assert set(overridable_words()) == words
    assert all(reason.severity is Severity.REFUSAL for reason in REASONS.values() if reason.overridable)


def test_of_many_findings_with_one_reason_a_few_are_reported_and_the_others_counted() -> None:
    many = [finding("listener_added", listener=f"127.0.0.1:{port}") for port in range(1000)]
    other = finding("quic", listener="x")

    said = limit_per_word((*many[:500], other, *many[500:]))

    assert said[:19] == tuple(many[:19])
    assert said[19].message == f"{many[19].message} And 980 more of these."
    assert said[20:] == (other,)
