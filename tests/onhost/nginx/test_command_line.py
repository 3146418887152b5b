import pytest

from fleet.onhost.nginx.command_line import CommandLine, grouped, read_command_line, under

CASES = [
    ("/usr/sbin/nginx", ("/usr/sbin/nginx",)),
    ("/usr/sbin/nginx -g daemon on; master_process on;", ("/usr/sbin/nginx", "-g", "daemon on; master_process on;")),
    ("/n -c /etc/a.conf -p /srv/x -q", ("/n", "-c", "/etc/a.conf", "-p", "/srv/x", "-q")),
    ("/n -c/etc/a.conf", ("/n", "-c/etc/a.conf")),
    ("/n -g env A=-c x; -c /a", ("/n", "-g", "env A=-c x;", "-c", "/a")),
    (
        "/opt/my nginx/nginx -c /etc/my conf/a.conf -e stderr",
        ("/opt/my nginx/nginx", "-c", "/etc/my conf/a.conf", "-e", "stderr"),
    ),
    ("nginx -g daemon off;", ("nginx", "-g", "daemon off;")),
]


@pytest.mark.parametrize(("title", "argv"), CASES)
def test_the_arguments_are_put_together_again_from_the_title(title: str, argv: tuple[str, ...]) -> None:
    assert grouped(title.split(" ")) == argv
    assert grouped(argv) == argv


def test_a_command_line_says_where_nginx_looks() -> None:
    read = read_command_line("/n -p /srv -c conf/a.conf -e /l -g daemon off; pid /x;".split(" "))

    assert read == CommandLine("/n", "/srv", "conf/a.conf", "daemon off; pid /x;", "/l")


def test_the_last_of_two_same_options_counts() -> None:
    assert read_command_line(("/n", "-c", "/a", "-c", "/b")).config == "/b"


def test_a_relative_path_is_taken_from_the_folder() -> None:
    assert under("/usr/local/nginx/", "logs/a") == "/usr/local/nginx/logs/a"
    assert under("/x", "/y") == "/y"
