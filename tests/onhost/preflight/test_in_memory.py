from typing import Any

from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.configuration import Configuration, read_configuration
from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.preflight.in_memory import error_log, lost_environment, pending
from fleet.onhost.protocol import Finding
from fleet.onhost.system.machine import Ran
from tests.support.onhost.recorded import EPOCH_S, PATH, RecordedMachine, a_master, a_subject, a_worker

LOG = "/proc/812/fd/2"
BEFORE, AFTER = EPOCH_S + 5, EPOCH_S + 60  # the worker of `a_master` began ten seconds after the epoch
SAYS = "nginx version: nginx/1.26.2\nconfigure arguments: --conf-path=/etc/nginx/nginx.conf\n"


def config(text: str = "worker_processes 1;", **files: str) -> Configuration:
    dump = f"# configuration file /etc/nginx/nginx.conf:\n{text}\n" + "".join(
        f"# configuration file {name}:\n{content}\n" for name, content in files.items()
    )
    found = read_configuration(dump, CommandLine(PATH))
    assert found is not None
    return found


def words(found: list[Finding]) -> list[str]:
    return [one.reason for one in found]


def changed(
    *times: tuple[str, dict[str, Any]], text: str = "events {}", workers: tuple[int, ...] = (1000,)
) -> list[Finding]:
    host = RecordedMachine(
        texts={"/etc/nginx/nginx.conf": text}, stats=dict(times), runs={("/proc/812/exe", "-V"): Ran(0, SAYS, 0.1)}
    )
    master = a_master(workers=tuple(a_worker(start=start) for start in workers))
    subject = a_subject(host, master)
    return pending(subject, config_of(host, subject.old))


def test_a_configuration_that_is_older_than_the_workers_is_the_one_that_runs() -> None:
    assert changed(("/etc/nginx/nginx.conf", {"st_ctime": BEFORE, "st_mtime": BEFORE})) == []


def test_a_file_changed_since_is_named_with_the_time_also_when_its_date_was_set_back() -> None:
    (found,) = changed(("/etc/nginx/nginx.conf", {"st_ctime": AFTER, "st_mtime": BEFORE}))

    assert found.reason == "pending_config"
    assert "/etc/nginx/nginx.conf (20" in found.message


def test_a_configuration_that_can_not_be_read_is_not_called_unchanged() -> None:
    host = RecordedMachine(runs={("/proc/812/exe", "-V"): Ran(0, SAYS, 0.1)})

    assert words(pending(a_subject(host), config_of(host, a_master()))) == ["not_checked"]
    assert words(pending(a_subject(host), None)) == ["not_checked"]


def test_a_file_taken_out_of_an_included_folder_is_noticed_by_the_folder() -> None:
    folder = {"st_mode": 0o040755, "st_ctime": AFTER, "st_mtime": AFTER}

    assert words(changed(("/etc/nginx/sites", folder), text="include sites/*;")) == ["pending_config"]
    assert changed(("/etc/nginx/sites", {**folder, "st_mtime": BEFORE}), text="include sites/*;") == []
    assert changed(("/etc/nginx/sites", folder), text="include sites/a;") == []


def test_the_oldest_worker_tells_the_last_reload_because_a_crashed_one_is_replaced_later() -> None:
    file = ("/etc/nginx/nginx.conf", {"st_ctime": EPOCH_S + 20})

    assert words(changed(file, workers=(1000, 9000))) == ["pending_config"]
    assert changed(file, workers=(5000, 9000)) == []


def test_a_log_that_is_no_file_is_missing_evidence_and_is_named() -> None:
    (found,) = error_log(
        a_subject(RecordedMachine(stats={LOG: {"st_mode": 0o020666}})), config("error_log syslog:server=unix:/dev/log;")
    )

    assert found.reason == "no_error_log"
    assert "error_log syslog:server=unix:/dev/log" in found.message
    assert error_log(a_subject(RecordedMachine(stats={LOG: {}})), config()) == []


def test_the_file_that_the_starter_left_as_stderr_is_no_log_of_a_master_that_writes_to_syslog_alone() -> None:
    subject = a_subject(RecordedMachine(stats={LOG: {}}))

    assert words(error_log(subject, config("error_log syslog:server=127.0.0.1;"))) == ["no_error_log"]
    assert error_log(subject, config("error_log syslog:server=127.0.0.1; error_log stderr;")) == []


MAPS = "7f00-7f01 r-xp 00000000 08:01 123 /usr/lib/libjemalloc.so.2\n7f02-7f03 r-xp 0 08:01 1 /usr/lib/libc.so.6\n"


def lost(text: str, listed: str, maps: str = MAPS) -> list[str]:
    host = RecordedMachine(texts={"/proc/812/maps": maps}, runs={("/proc/812/exe",): Ran(0, listed, 0.1)})
    return words(lost_environment(a_subject(host), config(text)))


def test_a_library_that_only_the_environment_brought_will_be_lost() -> None:
    assert lost("events {}", "libc.so.6 => /usr/lib/libc.so.6") == ["env_lost"]


def test_a_library_that_the_binary_names_or_the_configuration_keeps_is_not_lost() -> None:
    assert lost("events {}", "libjemalloc.so.2 => /usr/lib/libjemalloc.so.2") == []
    assert lost("env LD_PRELOAD;", "") == []
    assert lost("events {}", "", maps="7f02-7f03 r-xp 0 08:01 1 /usr/lib/libc.so.6\n") == []
