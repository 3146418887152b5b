from typing import Any

import pytest

from fleet.onhost.nginx.master_paths import config_of
from fleet.onhost.preflight import in_memory
from fleet.onhost.preflight.in_memory import error_log, lost_environment, pending
from fleet.onhost.protocol import Finding
from fleet.onhost.rehearsal.evidence import Defect
from fleet.onhost.system.machine import Ran
from tests.support.onhost.recorded import EPOCH_S, RecordedMachine, a_master, a_subject, a_worker
from tests.support.onhost.shown import UP, failed, files, shown

LOG = "/proc/812/fd/2"
BEFORE, AFTER = EPOCH_S + 5, EPOCH_S + 60  # the worker of `a_master` began ten seconds after the epoch
SAYS = "nginx version: nginx/1.26.2\nconfigure arguments: --conf-path=/etc/nginx/nginx.conf\n"


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
    subject = a_subject(RecordedMachine())
    config = files("error_log syslog:server=unix:/dev/log;\n# error_log x;\n")

    (found,) = error_log(subject, config, shown(UP._replace(error_log=None)))

    assert found.reason == "no_error_log"
    assert "(error_log syslog:server=unix:/dev/log)" in found.message
    assert error_log(subject, config, shown()) == []


def test_without_a_rehearsal_the_running_master_s_log_shows_whether_there_is_one() -> None:
    writes = RecordedMachine(stats={LOG: {}, "/proc/812/fd/4": {}}, names={"/proc/812/fd": ("0", "1", "2", "4")})
    started_so = RecordedMachine(stats={LOG: {}}, names={"/proc/812/fd": ("0", "1", "2")})

    assert error_log(a_subject(writes), files(), None) == []
    assert words(error_log(a_subject(started_so), files(), None)) == ["no_error_log"]
    assert words(error_log(a_subject(RecordedMachine()), None, shown(failed(Defect.ENDED)))) == ["no_error_log"]


@pytest.mark.parametrize(
    ("name", "matters"),
    [("LD_PRELOAD", True), ("LD_LIBRARY_PATH", True), ("GLIBC_TUNABLES", True), ("OPENSSL_CONF", True)]
    + [("HOME", False), ("SUDO_USER", False), ("INVOCATION_ID", False), ("SSL_CERT_FILE", False)],
)
def test_a_variable_that_the_new_master_does_not_get_counts_if_it_changes_what_nginx_loads(
    name: str, matters: bool
) -> None:
    old = UP._replace(environment=(*UP.environment, name))

    found = lost_environment(a_subject(RecordedMachine()), files(), shown(UP, old))

    assert [one.message for one in found if f"was started with {name}," in one.message] == [
        one.message for one in found
    ]
    assert words(found) == (["env_lost"] if matters else [])
    assert lost_environment(a_subject(RecordedMachine()), files(), shown(old, old)) == []


@pytest.mark.parametrize(
    ("text", "lost"), [("events {}", True), ("env LD_PRELOAD;", False), ("env LD_PRELOAD=/x.so;", False)]
)
def test_without_the_running_release_in_the_rehearsal_the_process_and_the_files_tell_it(
    text: str, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_memory, "environment", lambda machine, pid: {"LD_PRELOAD": "/x.so", "HOME": "/"})
    subject = a_subject(RecordedMachine())

    for rehearsal in (None, shown(old=None)):
        assert words(lost_environment(subject, files(text), rehearsal)) == (["env_lost"] if lost else [])
