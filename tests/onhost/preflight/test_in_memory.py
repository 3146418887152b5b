from typing import Any

from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.configuration import Configuration, read_configuration
from fleet.onhost.preflight.in_memory import error_log, lost_environment, pending, poisoned
from fleet.onhost.protocol import Finding
from fleet.onhost.system.machine import Ran
from tests.support.onhost.recorded import EPOCH_S, PATH, RecordedMachine, a_master, a_record, a_subject, a_worker

LOG = "/proc/812/fd/2"
BEFORE, AFTER = EPOCH_S + 5, EPOCH_S + 60  # the worker of `a_master` began ten seconds after the epoch
ALERT = "2030/01/01 10:00:00 [alert] 812#812: "
POISON = (
    ALERT + 'rename() /p to /p.oldbin failed before executing new binary process "/usr/sbin/nginx" (2: No such file)\n'
)
FORK = ALERT + 'fork() failed while spawning "new binary process" (11: Resource temporarily unavailable)\n'
SAYS = "nginx version: nginx/1.26.2\nconfigure arguments: --conf-path=/etc/nginx/nginx.conf\n"
STARTED = "2030/01/01 10:01:00 [notice] 812#812: start new binary process 900\n"


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
    return pending(a_subject(host, master))


def test_a_configuration_that_is_older_than_the_workers_is_the_one_that_runs() -> None:
    assert changed(("/etc/nginx/nginx.conf", {"st_ctime": BEFORE, "st_mtime": BEFORE})) == []


def test_a_file_changed_since_is_named_with_the_time_also_when_its_date_was_set_back() -> None:
    (found,) = changed(("/etc/nginx/nginx.conf", {"st_ctime": AFTER, "st_mtime": BEFORE}))

    assert found.reason == "pending_config"
    assert "/etc/nginx/nginx.conf (20" in found.message


def test_a_configuration_that_can_not_be_read_is_not_called_unchanged() -> None:
    host = RecordedMachine(runs={("/proc/812/exe", "-V"): Ran(0, SAYS, 0.1)})

    assert words(pending(a_subject(host))) == ["not_checked"]
    assert words(pending(a_subject(RecordedMachine()))) == ["not_checked"]


def test_a_file_taken_out_of_an_included_folder_is_noticed_by_the_folder() -> None:
    folder = {"st_mode": 0o040755, "st_ctime": AFTER, "st_mtime": AFTER}

    assert words(changed(("/etc/nginx/sites", folder), text="include sites/*;")) == ["pending_config"]
    assert changed(("/etc/nginx/sites", {**folder, "st_mtime": BEFORE}), text="include sites/*;") == []
    assert changed(("/etc/nginx/sites", folder), text="include sites/a;") == []


def test_the_oldest_worker_tells_the_last_reload_because_a_crashed_one_is_replaced_later() -> None:
    file = ("/etc/nginx/nginx.conf", {"st_ctime": EPOCH_S + 20})

    assert words(changed(file, workers=(1000, 9000))) == ["pending_config"]
    assert changed(file, workers=(5000, 9000)) == []


def judged(
    log: str | None, workers: int = 1, wanted: str = "1", draining: bool = False, is_changed: bool = False
) -> list[Finding]:
    host = RecordedMachine()
    if log is not None:
        host.texts[LOG], host.stats[LOG] = log, {"st_size": len(log)}
    own = tuple(a_worker(pid=n, draining=draining and n == 0) for n in range(workers))
    return poisoned(a_subject(host, a_master(workers=own)), config(f"worker_processes {wanted};"), is_changed)


def test_a_master_with_a_clean_past_is_not_poisoned() -> None:
    assert judged(None) == []
    assert (
        judged("2030/01/01 10:00:00 [notice] 812#812: start worker processes\nraw line\n", workers=4, wanted="4") == []
    )


def test_a_failed_usr2_in_the_log_is_evidence_until_a_later_one_succeeded() -> None:
    assert words(judged(POISON)) == ["poisoned"]
    assert words(judged(FORK)) == ["poisoned"]
    assert judged(POISON + STARTED) == []
    assert words(judged(POISON + STARTED + FORK)) == ["poisoned"]


def test_a_line_of_another_process_or_of_another_life_is_no_evidence() -> None:
    assert judged(POISON.replace("812#812", "811#811")) == []
    assert judged(POISON.replace("2030", "2001")) == []


def test_several_full_sets_of_workers_are_evidence() -> None:
    assert words(judged(None, workers=4, wanted="2")) == ["poisoned"]
    assert judged(None, workers=3, wanted="2") == []
    assert judged(None, workers=4, wanted="2", draining=True) == []
    assert judged(None, workers=4, wanted="2", is_changed=True) == []


def test_the_record_is_evidence_for_this_very_process_only() -> None:
    def by_record(pid: int, start: int) -> list[str]:
        subject = a_subject(RecordedMachine(), record=a_record(poisoned=(pid, start)))
        return words(poisoned(subject, None, False))

    assert by_record(812, 900) == ["poisoned"]
    assert by_record(812, 901) == []


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
