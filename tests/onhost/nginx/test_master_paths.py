from fleet.onhost.nginx.master_paths import config_of, pid_path
from fleet.onhost.system.machine import Ran
from tests.support.onhost.recorded import PATH, RecordedMachine, a_master

SAYS = "nginx version: nginx/1.26.2\nbuilt by gcc\nconfigure arguments: --prefix=/etc/nginx\n"
MAIN = "/etc/nginx/conf/nginx.conf"


def a_host(text: str, **files: str) -> RecordedMachine:
    return RecordedMachine(
        texts={MAIN: text, **files},
        runs={("/proc/812/exe", "-V"): Ran(0, SAYS, 0.1)},
    )


def test_the_pid_file_is_found_without_running_a_test_that_would_make_it() -> None:
    host = a_host("pid run/n.pid;")

    assert pid_path(host, a_master()) == "/etc/nginx/run/n.pid"
    assert host.ran == [("/proc/812/exe", "-V")]


def test_without_a_directive_it_is_the_built_in_one_and_without_an_answer_unknown() -> None:
    host = a_host("events {}")
    assert pid_path(host, a_master()) == "/etc/nginx/logs/nginx.pid"

    host.runs = {}

    assert pid_path(host, a_master()) is None
    assert config_of(host, a_master()) is None


def test_of_several_the_one_that_names_the_master_counts() -> None:
    text = "http { map $arg_x $y { pid 1; pid /dev/zero; } } include main.conf;"
    more = {"/etc/nginx/conf/main.conf": "pid /run/real.pid;"}

    assert pid_path(a_host(text, **more, **{"/run/real.pid": "812\n"}), a_master()) == "/run/real.pid"
    assert pid_path(a_host(text, **more, **{"/run/real.pid.oldbin": "812\n"}), a_master()) == "/run/real.pid"
    assert pid_path(a_host(text, **{"/etc/nginx/logs/nginx.pid": "812"}), a_master()) == "/etc/nginx/logs/nginx.pid"


def test_the_arguments_of_the_master_are_honoured() -> None:
    host = a_host("", **{"/srv/n.conf": "", "/srv/p/run/n.pid": "812"})
    host.links["/proc/812/cwd"], host.stats["/srv"] = "/srv", {"st_mode": 0o040755}

    assert pid_path(host, a_master(argv=(PATH, "-g", "pid", "run/g.pid;"))) == "/etc/nginx/run/g.pid"
    found = config_of(host, a_master(argv=(PATH, "-c", "/srv/n.conf")))
    assert found is not None
    assert found.files == ("/srv/n.conf",)
    assert pid_path(host, a_master(argv=(PATH, "-p", "p/", "-g", "pid", "run/n.pid;"))) == "/srv/p/run/n.pid"
