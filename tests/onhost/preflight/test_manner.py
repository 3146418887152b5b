"""How an upgrade is rehearsed: whole, the new release alone, or not at all."""

import pytest

from fleet.onhost.nginx.binary import Build
from fleet.onhost.observation import Master
from fleet.onhost.preflight.manner import Manner, manner_of
from tests.support.onhost.recorded import PATH, RecordedMachine, a_master, a_subject
from tests.support.onhost.shown import files

SAME = {"st_dev": 1, "st_ino": 10}
OLD = Build("nginx", "1.26.2", {"prefix": "/etc/nginx"}, set())
NEW = OLD._replace(version="1.26.3")


def manner(
    old: Master | None = None,
    new: Build | None = NEW,
    text: str = "events {}",
    can_launch: bool = True,
    staged: str | None = "/s",
    root: str = "/",
) -> Manner:
    host = RecordedMachine(stats={PATH: SAME, "/proc/812/root" + PATH: SAME}, links={"/proc/812/root": root})
    return manner_of(a_subject(host, old, staged=staged), OLD, new, files(text), can_launch)


def test_an_ordinary_host_rehearses_the_whole_upgrade() -> None:
    assert manner() is Manner.WHOLE
    assert manner(a_master(argv=(PATH, "-p", "/srv")), NEW._replace(options={"prefix": "/opt"})) is Manner.WHOLE


def test_where_usr2_would_not_be_heard_the_new_release_is_rehearsed_alone() -> None:
    assert manner(can_launch=False) is Manner.ALONE


@pytest.mark.parametrize(
    "how",
    [
        manner(new=None),
        manner(staged=None),
        manner(a_master(argv=("nginx",)), can_launch=False),
        manner(a_master(argv=("sbin/nginx", "-c", "/x"))),
        manner(new=NEW._replace(server="Angie")),
        manner(new=NEW._replace(options={"prefix": "/opt"})),
        manner(new=NEW._replace(options={"prefix": "/etc/nginx", "conf-path": "/other.conf"})),
        manner(a_master(pid=1)),
        manner(text="master_process off;"),
        manner(a_master(argv=(PATH, "-g", "master_process", "off;"))),
        manner(root="/srv/jail"),
    ],
)
def test_what_is_refused_anyway_or_would_be_another_nginx_is_not_rehearsed(how: Manner) -> None:
    assert how is Manner.NOT
