"""What systemd would do, in words, by the settings of the unit."""

import pytest

from fleet.onhost.systemd.effects import is_harmful, when_held, when_stale
from fleet.onhost.systemd.unit import Unit

BARE = Unit("nginx.service", "forking", "/run/nginx.pid", 812)
DEBIAN = BARE._replace(
    kill_mode="mixed", stop="{ argv[]=/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile /run/nginx.pid }"
)
BY_MAIN = BARE._replace(reload="{ argv[]=/bin/kill -s HUP $MAINPID }")
PROCESS = BARE._replace(kill_mode="process", stop_timeout="1min 30s")
MIXED = BARE._replace(kill_mode="mixed", stop_timeout="5s")


@pytest.mark.parametrize(
    ("unit", "harmful", "words"),
    [
        (DEBIAN, False, "end both masters and start the file at the path"),
        (BY_MAIN, True, "`systemctl reload` would reach the old master"),
        (PROCESS, True, "keeps the ports for 1min 30s"),
        (MIXED, True, "kill the new one after 5s"),
        (PROCESS._replace(stop="{ argv[]=/bin/kill -s QUIT $(cat /run/nginx.pid) }"), False, "end both masters"),
    ],
)
def test_the_settings_say_what_a_restart_does_to_a_held_nginx(unit: Unit, harmful: bool, words: str) -> None:
    assert is_harmful(unit) is harmful
    assert words in when_held(unit)


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        (
            DEBIAN,
            "a reload of a configuration that nginx rejects makes systemd kill nginx; a stop and a restart still end it",
        ),
        (BY_MAIN, "a reload fails, and systemd then kills nginx; a stop and a restart cut every connection"),
        (PROCESS, "makes systemd give nginx up; a stop does not reach it, and a restart fails"),
    ],
)
def test_the_settings_say_what_follows_from_a_stale_main_process(unit: Unit, words: str) -> None:
    assert words in when_stale(unit)
