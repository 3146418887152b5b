"""`--allow`: the reasons that may be overridden."""

import pytest

from fleet.onhost.protocol import Finding
from fleet.onhost.reasons.catalogue import REASONS, apply_allowed, overridable_words
from fleet.options.rollout import OVERRIDABLE
from fleet.ui.result_tables import finding_line
from tests.support.pretend.visits import NEW, a_fleet
from tests.support.shell import QUICK, ROLLOUT, Shell


def test_every_printed_allow_option_may_be_typed_and_reaches_the_hosts(shell: Shell) -> None:
    for word in overridable_words():
        printed = apply_allowed((finding_of(word),), ())[0].remedy
        typed = printed.split("--allow ")[1].rstrip("`.")
        assert finding_line(apply_allowed((finding_of(word),), ())[0]).count("--allow") == 1
        for spelling in (typed, typed.replace("-", "_")):
            for command in (("check", NEW), ("upgrade", NEW, "-y", *QUICK)):
                shell.fleet, shell.ids = a_fleet(4), iter([ROLLOUT])
                assert shell(*command, "--allow", spelling) == 0
                assert {task.request.options.allow for task in shell.fleet.tasks} == {(word,)}


def finding_of(word: str) -> Finding:
    reason = REASONS[word.replace("-", "_")]
    return Finding(reason.word, reason.severity, "Something is so.", "Cure it.", reason.overridable)


def test_check_and_upgrade_refuse_an_unknown_reason_with_the_known_ones(shell: Shell) -> None:
    for command in (("check", NEW), ("upgrade", NEW, "-y"), ("upgrade", NEW, "--dry-run")):
        assert shell(*command, "--allow", "nonsense") == 2
        assert "--allow nonsense" in shell.err
        assert all(word in shell.err for word in overridable_words())

    assert shell.fleet.calls == []


LINE = "setrlimit(RLIMIT_NOFILE, *) failed"


@pytest.mark.parametrize("written", [f"log-line={LINE}", f"log_line={LINE}", f" log-line= {LINE} "])
def test_a_pattern_for_log_lines_reaches_the_hosts_beside_the_refusals(shell: Shell, written: str) -> None:
    for command in (("check", NEW), ("upgrade", NEW, "-y", *QUICK)):
        shell.fleet, shell.ids = a_fleet(4), iter([ROLLOUT])
        assert shell(*command, "--allow", written, "--allow", "quic") == 0
        assert {task.request.options.allow for task in shell.fleet.tasks} == {(f"log-line={LINE}", "quic")}


@pytest.mark.parametrize(
    "written",
    ["log-line", "log-line=", "log-line=*", "log-line=failed", "log-line=exited on signal 9", "quic=yes it is"],
)
def test_a_pattern_that_is_none_is_refused_before_a_host_is_asked(shell: Shell, written: str) -> None:
    for command in (("check", NEW), ("upgrade", NEW, "-y"), ("upgrade", NEW, "--dry-run"), ("resume", "-y")):
        assert shell(*command, "--allow", written) == 2
        assert f"--allow {written}" in shell.err
        assert "PATTERN" in shell.err or "--allow log-line='sched_setaffinity() failed'" in shell.err

    assert shell.fleet.calls == []


def test_the_plan_shows_the_pattern(shell: Shell) -> None:
    assert shell("upgrade", NEW, "--dry-run", "--allow", f"log-line={LINE}") == 0

    assert f"Allowed, and recorded: log-line={LINE}." in shell.out


def test_the_help_of_allow_lists_every_reason() -> None:
    assert ", ".join(overridable_words()) == OVERRIDABLE
