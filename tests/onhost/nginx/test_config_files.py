"""The files of a configuration by their text: every trap of quoting is harmless, and nothing is left out."""

import os
import subprocess
from pathlib import Path

import pytest

from fleet.onhost.nginx.config_files import ConfigFiles, Seen, read_files, statements_in, values_in
from fleet.onhost.system.machine import Machine
from tests.support.onhost.recorded import RecordedMachine

NGINX = "/usr/sbin/nginx"
MAIN = "/etc/nginx/nginx.conf"


def files_of(text: str, *others: str, **folders: tuple[str, ...]) -> tuple[str, ...]:
    """The files beside the main one, of those that exist."""
    machine = RecordedMachine(texts={MAIN: text, **dict.fromkeys(others, "")}, names=folders)
    return read_files(Seen(machine, 812), MAIN).files[1:]


LUA = """
server { listen 80; location = /l { content_by_lua_block { ngx.say([[it is the gateway that's down]]) } } }
include sites/a.conf;
"""
NJS = """
js_set $x 'function (r) { return "don\\'t }" }';
include sites/a.conf;
"""
PERL = """
perl_set $y 'sub { my $r = shift; return "}" if $r->uri =~ /it.s{2}/; }';
include sites/a.conf;
"""
MAP = """
map $uri $z { "~^/a{2}$" "{"; '~"' '#'; default ${uri}; }
include sites/a.conf;
"""
HOUSES = [
    pytest.param(LUA, id="a Lua long bracket with an apostrophe"),
    pytest.param(NJS, id="njs in a quoted string"),
    pytest.param(PERL, id="perl in a quoted string"),
    pytest.param(MAP, id="a map with braces and quotes in its regexes"),
    pytest.param("rewrite ^/it's$ /a;\ninclude sites/a.conf;", id="an apostrophe in an unquoted word"),
    pytest.param('return 200 "}}}{";\ninclude sites/a.conf;', id="braces in a string"),
    pytest.param("user www;\r\ninclude sites/a.conf;\r\n", id="lines that end with CR LF"),
    pytest.param("include 'sites/a.conf';", id="single quotes"),
    pytest.param('include "sites/a.conf";', id="double quotes"),
    pytest.param("include\n  # the site\n  sites/a.conf # this one\n  ;", id="comments inside the statement"),
    pytest.param("events{}include sites/a.conf;", id="right after a brace"),
    pytest.param("user www;include sites/a.conf;", id="right after a semicolon"),
    pytest.param('add_header X "a # b"; include sites/a.conf;', id="a hash in a string before it"),
    pytest.param("location ~ ^/x#y { include sites/a.conf; }", id="a hash inside a word before it"),
    pytest.param("include sites/a.conf;\ninclude nginx.conf;", id="a file that includes itself"),
    pytest.param("include nothing.conf; include sites/a.conf;", id="a file that does not exist"),
]


@pytest.mark.parametrize("text", HOUSES)
def test_an_include_is_found_whatever_stands_around_it(text: str) -> None:
    assert files_of(text, "/etc/nginx/sites/a.conf") == ("/etc/nginx/sites/a.conf",)


@pytest.mark.parametrize(
    "text",
    [
        "# include sites/a.conf;",
        "#include sites/a.conf;",
        "user www; # server { include sites/a.conf; }",
        "# don't { include sites/a.conf; }",
        "location / {} #; include sites/a.conf;",
        "xinclude sites/a.conf;",
        "set $a include sites/a.conf;",
    ],
)
def test_a_comment_and_another_statement_include_nothing(text: str) -> None:
    assert files_of(text, "/etc/nginx/sites/a.conf") == ()


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("$host/a.conf", "$host/a.conf"),
        ("${host}.conf", "${host}.conf"),
        ("'a b.conf'", "a b.conf"),
        ('"it\\"s.conf"', 'it"s.conf'),
        ("a\\\\b.conf", "a\\b.conf"),
        ("../other/a.conf", "../other/a.conf"),
    ],
)
def test_the_name_is_taken_as_nginx_takes_it(value: str, name: str) -> None:
    assert files_of(f"include {value};", f"/etc/nginx/{name}") == (f"/etc/nginx/{name}",)


def test_a_pattern_is_expanded_as_glob_does_and_its_folders_are_noted() -> None:
    machine = RecordedMachine(
        texts={
            MAIN: "include sites/*/[ab]?.conf; include more/*; include [z-a].conf;",
            "/etc/nginx/sites/x/a1.conf": "",
            "/etc/nginx/sites/x/c1.conf": "",
            "/etc/nginx/more/.hidden": "",
            "/etc/nginx/more/b": "include deeper.conf;",
            "/etc/nginx/deeper.conf": "",
        },
        stats={
            name: {"st_mode": 0o040755}
            for name in ("/etc/nginx", "/etc/nginx/sites", "/etc/nginx/sites/x", "/etc/nginx/more")
        },
        names={
            "/etc/nginx/sites": ("x",),
            "/etc/nginx/sites/x": ("a1.conf", "c1.conf"),
            "/etc/nginx/more": (".hidden", "b"),
        },
    )

    found = read_files(Seen(machine, 812), MAIN)

    assert found.files == (MAIN, "/etc/nginx/sites/x/a1.conf", "/etc/nginx/more/b", "/etc/nginx/deeper.conf")
    assert found.folders == ("/etc/nginx", "/etc/nginx/more", "/etc/nginx/sites", "/etc/nginx/sites/x")


def test_the_directives_of_the_command_line_may_include_files() -> None:
    machine = RecordedMachine(texts={MAIN: "", "/etc/nginx/g.conf": "pid /run/g.pid;"})

    found = read_files(Seen(machine, 812), MAIN, "include g.conf; daemon on;")

    assert found.files == (MAIN, "/etc/nginx/g.conf")
    assert found.values("pid") == ("/run/g.pid",)


def test_what_can_not_be_a_file_of_the_configuration_is_never_opened(tmp_path: Path) -> None:
    main = tmp_path / "nginx.conf"
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    main.write_text("include folder; include fifo; include loop; include *; include /dev/zero; include a\0b;")

    found = read_files(Seen(Machine(), os.getpid()), str(main))

    assert found == ConfigFiles(((str(main), main.read_text()),), (str(tmp_path),))


def test_bytes_that_are_no_utf_8_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    main = tmp_path / "nginx.conf"
    odd = os.fsdecode(b"caf\xe9.conf")
    (tmp_path / odd).write_text("")
    main.write_bytes(b"\xef\xbb\xbfinclude caf\xe9.conf;\n# \xff\n")

    assert read_files(Seen(Machine(), os.getpid()), str(main)).files == (str(main), f"{tmp_path}/{odd}")


def test_more_than_fleet_reads_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = tmp_path / "nginx.conf"
    main.write_text("include *;")
    (tmp_path / "more").write_text("")
    seen = Seen(Machine(), os.getpid())
    assert read_files(seen, str(main)).complete

    monkeypatch.setattr("fleet.onhost.nginx.config_files.MOST_FILES", 1)

    assert not read_files(seen, str(main)).complete


def test_nginx_itself_prints_the_same_files(tmp_path: Path) -> None:
    for name in ("sites", "run", "sites/deep"):
        (tmp_path / name).mkdir()
    (tmp_path / "sites" / "b.conf").write_text("include sites/deep/[!x]*.conf;\n")
    (tmp_path / "sites" / ".c.conf").write_text("nonsense")
    (tmp_path / "sites" / "deep" / "x.conf").write_text("nonsense")
    (tmp_path / "sites" / "deep" / "y z.conf").write_text("server { listen 127.0.0.1:18099; }\n")
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/run/nginx.pid; error_log stderr; events {{}}\n# include sites/.c.conf;\n"
        "http { access_log off; include sites/*.conf; map $uri $x { '~it{1}\"' \"#\"; } include 'sites/deep/y z.conf'; }"
    )
    done = subprocess.run(
        [NGINX, "-p", str(tmp_path), "-c", str(main), "-T"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = {line[21:-1] for line in done.stdout.splitlines() if line.startswith("# configuration file ")}

    assert set(read_files(Seen(Machine(), os.getpid()), str(main)).files) == printed


def test_in_another_root_links_lead_to_the_files_of_that_root(tmp_path: Path) -> None:
    jail = tmp_path / "jail"
    for name in ("etc/nginx/sites", "srv/available"):
        (jail / name).mkdir(parents=True)
    (jail / "etc/nginx/nginx.conf").write_text("include sites/*;")
    (jail / "srv/available/a").write_text("pid /run/in-the-jail.pid;")
    (jail / "etc/nginx/sites/a").symlink_to("/srv/available/a")
    (jail / "srv/available/up").symlink_to("../../../../srv/available/a")
    (jail / "etc/nginx/sites/b").symlink_to("/srv/available/up")
    (jail / "etc/nginx/sites/loop").symlink_to("/etc/nginx/sites/loop")

    class Jailed(Machine):
        def real_path(self, path: str) -> str:
            return str(jail) if path == "/proc/812/root" else super().real_path(path)

    seen = Seen(Jailed(), 812)
    seen.root = str(jail)

    found = read_files(seen, MAIN)

    assert found.files == (MAIN, "/etc/nginx/sites/a", "/etc/nginx/sites/b")
    assert found.values("pid") == ("/run/in-the-jail.pid",) * 2


def test_a_master_with_a_mount_namespace_or_a_root_of_its_own_is_looked_at_in_there() -> None:
    def root(**links: str) -> str:
        return Seen(RecordedMachine(links={f"/proc/{name}": to for name, to in links.items()}), 812).root

    assert root() == ""
    assert root(**{"812/root": "/srv/jail"}) == "/proc/812/root"
    assert root(**{"812/root": "/", "812/ns/mnt": "/proc/812/ns/mnt:[1]", "self/ns/mnt": "/proc/7/ns/mnt:[1]"}) == ""
    assert root(**{"812/ns/mnt": "/proc/812/ns/mnt:[1]", "self/ns/mnt": "/proc/7/ns/mnt:[2]"}) == "/proc/812/root"


def test_statements_are_given_as_written() -> None:
    text = "listen 443 quic\n  reuseport; # listen 80 quic;\nserver { listen [::]:443 quic; } xlisten 1 quic;"

    assert list(statements_in(text, "listen")) == ["listen 443 quic\n  reuseport;", "listen [::]:443 quic;"]
    assert list(values_in("quic_bpf on;\n#quic_bpf off;", "quic_bpf")) == ["on"]
