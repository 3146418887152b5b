"""Which words are taken for a misspelt one."""

import pytest

from fleet.inventory.nearest import did_you_mean, one_slip_off

KNOWN = ("nginx_binary", "nginx_pid_file", "nginx_config", "nginx_prefix")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("nginx_pidfile", "nginx_pid_file"),
        ("nginx_pid_files", "nginx_pid_file"),
        ("nginx_bianry", "nginx_binary"),
        ("nginx_cinfig", "nginx_config"),
        ("ginx_prefix", "nginx_prefix"),
        ("nginx_prefi", "nginx_prefix"),
        ("nginx-config", "nginx_config"),
    ],
)
def test_a_word_that_is_one_letter_off_is_recognised(word: str, meant: str) -> None:
    assert one_slip_off(word, KNOWN) == meant


@pytest.mark.parametrize(
    "word", ["nginx_binary", "nginx_conf", "nginx_version", "nginx_pid", "prefix", "", "nginx_cofing"]
)
def test_a_word_that_is_the_same_or_further_off_is_another_word(word: str) -> None:
    assert one_slip_off(word, KNOWN) == ""


def test_the_most_similar_word_is_suggested() -> None:
    assert did_you_mean("fleet_probe", ["fleet_probes", "fleet_state_dir"]) == " (did you mean fleet_probes?)"
    assert did_you_mean("x", ["fleet_probes"]) == ""
