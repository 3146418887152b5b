"""A poisoned master, and a host with other processors than at nginx's start, told apart by recorded workers and logs."""

import pytest

from fleet.onhost.nginx.config_files import ConfigFiles
from fleet.onhost.preflight.worker_sets import judged
from fleet.onhost.protocol import Finding
from tests.support.onhost.recorded import RecordedMachine, a_master, a_record, a_subject, a_worker

LOG = "/proc/812/fd/2"
ALERT = "2030/01/01 10:00:00 [alert] 812#812: "
POISON = (
    ALERT + 'rename() /p to /p.oldbin failed before executing new binary process "/usr/sbin/nginx" (2: No such file)\n'
)
FORK = ALERT + 'fork() failed while spawning "new binary process" (11: Resource temporarily unavailable)\n'
STARTED = "2030/01/01 10:01:00 [notice] 812#812: start new binary process 900\n"


def files(text: str) -> ConfigFiles:
    return ConfigFiles((("/etc/nginx/nginx.conf", text),))


def said(
    log: str | None = None,
    starts: tuple[int, ...] = (1000,),
    wanted: str = "1",
    online: str = "0",
    draining: bool = False,
    is_changed: bool = False,
) -> list[Finding]:
    """`starts` are the workers, by when they were started."""
    host = RecordedMachine(texts={"/sys/devices/system/cpu/online": online})
    if log is not None:
        host.texts[LOG], host.stats[LOG] = log, {"st_size": len(log)}
    own = tuple(a_worker(n, start, draining and n == 0) for n, start in enumerate(starts))
    return judged(a_subject(host, a_master(workers=own)), files(f"worker_processes {wanted};"), is_changed)


def words(found: list[Finding]) -> list[str]:
    return [one.reason for one in found]


FOUR = (1000, 1000, 1001, 1003)


def test_a_master_with_a_clean_past_is_not_poisoned() -> None:
    assert said() == []
    assert said("2030/01/01 10:00:00 [notice] 812#812: start worker processes\nraw line\n", FOUR, "4") == []


def test_a_failed_usr2_in_the_log_is_evidence_until_a_later_one_succeeded() -> None:
    assert words(said(POISON)) == ["poisoned"]
    assert words(said(FORK)) == ["poisoned"]
    assert said(POISON + STARTED) == []
    assert words(said(POISON + STARTED + FORK)) == ["poisoned"]


def test_a_line_of_another_process_or_of_another_life_is_no_evidence() -> None:
    assert said(POISON.replace("812#812", "811#811")) == []
    assert said(POISON.replace("2030", "2001")) == []


def test_several_full_sets_of_workers_are_evidence() -> None:
    assert words(said(None, FOUR, "2")) == ["poisoned"]
    assert said(None, FOUR[:3], "2") == []
    assert said(None, FOUR, "2", draining=True) == []
    assert said(None, FOUR, "2", is_changed=True) == []


def test_the_record_is_evidence_for_this_very_process_only() -> None:
    def by_record(pid: int, start: int) -> list[str]:
        return words(judged(a_subject(RecordedMachine(), record=a_record(poisoned=(pid, start))), None, False))

    assert by_record(812, 900) == ["poisoned"]
    assert by_record(812, 901) == []


# worker_processes auto


@pytest.mark.parametrize(
    ("starts", "online", "told"),
    [
        (FOUR, "0-3", []),
        (FOUR, "0,2-4", []),
        (FOUR, "0-1", ["processors_changed"]),
        (FOUR, "0", ["processors_changed"]),
        (FOUR, "0-7", ["processors_changed"]),
        ((1000,), "0-1", ["processors_changed"]),
        # one of them ended and was started again
        ((1000, 1000, 1001, 7000), "0-1", ["processors_changed"]),
        ((1000, 7000), "0", ["processors_changed"]),
        # reloads of a poisoned master
        ((1000, 1001, 7000, 7001), "0-1", ["poisoned"]),
        ((1000, 1001, 7000, 7001), "0", ["poisoned"]),
        ((1000, 1001, 7000, 7001, 9000, 9002), "0-1", ["poisoned"]),
        ((), "0-1", []),
    ],
)
def test_workers_that_were_started_together_are_no_sets_of_a_poisoned_master(
    starts: tuple[int, ...], online: str, told: list[str]
) -> None:
    assert words(said(None, starts, "auto", online)) == told


def test_other_processors_are_a_warning_with_both_numbers_and_the_word_that_a_reload_changes_nothing() -> None:
    (found,) = said(None, FOUR, "auto", "0-1")

    assert found.message.startswith("The new release would start 2 workers, where nginx (pid 812) has 4:")
    assert "`worker_processes 4;`" in found.remedy
    assert "With `auto` a reload changes nothing." in found.remedy


def test_processors_that_are_not_known_or_a_configuration_that_has_changed_tell_nothing() -> None:
    assert said(None, FOUR, "auto", "") == []
    assert said(None, FOUR, "auto", "0-1", is_changed=True) == []
    assert said(None, FOUR, "auto", "0-1", draining=True) == []
