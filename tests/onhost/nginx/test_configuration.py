import subprocess
from pathlib import Path

from fleet.onhost.nginx.command_line import CommandLine
from fleet.onhost.nginx.configuration import Configuration, Listen, read_configuration, read_disk
from fleet.onhost.system.machine import Machine
from tests.support.onhost.recorded import RecordedMachine

NGINX = "/usr/sbin/nginx"

MAIN = r"""
# daemon off;
worker_processes  4;   pid run/nginx.pid;
error_log /var/log/nginx/error.log warn;  error_log syslog:server=unix:/dev/log;
env PATH; env "A=b c"; user www-data;
include modules/*.conf;
events { worker_connections 10; }
http {
    log_format x '$remote_addr { "quoted; }" \'';
    map $uri $y { "~^/a{2}$" 1; default ${uri}; }
    include sites/*.conf;
    server { server_name a; location ~ \{ { return 200 "listen 99;"; } }
    server { listen 127.0.0.1:81 default_server reuseport; listen unix:/run/x.sock; }
}
"""
SITE = "server { listen [::]:443 ssl ipv6only=off; }\n"


def dump(**files: str) -> str:
    head = "nginx: [warn] something\nnginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n"
    return head + "".join(f"# configuration file {name}:\n{text}\n" for name, text in files.items())


def read(*, directives: str = "", **files: str) -> Configuration:
    found = read_configuration(dump(**files), CommandLine(NGINX, directives=directives))
    assert found is not None
    return found


def a_main(text: str, directives: str = "") -> Configuration:
    return read(directives=directives, **{"/etc/nginx/nginx.conf": text})


def test_the_facts_are_read_through_comments_quotes_blocks_and_includes() -> None:
    found = read(**{"/etc/nginx/nginx.conf": MAIN, "/etc/nginx/sites/b.conf": SITE, "/etc/nginx/sites/.hid.conf": SITE})

    assert (found.daemon, found.master_process, found.quic_bpf) == (True, True, False)
    assert (found.worker_processes, found.pid, found.user) == ("4", "run/nginx.pid", "www-data")
    assert found.error_logs == (("/var/log/nginx/error.log", "warn"), ("syslog:server=unix:/dev/log",))
    assert found.env == ("PATH", "A")
    assert found.patterns == ("/etc/nginx/modules/*.conf", "/etc/nginx/sites/*.conf")
    assert found.listens == (
        Listen("http", ("[::]:443", "ssl", "ipv6only=off")),
        Listen("http", ()),
        Listen("http", ("127.0.0.1:81", "default_server", "reuseport")),
        Listen("http", ("unix:/run/x.sock",)),
    )


def test_directives_of_the_command_line_count_like_those_of_the_file() -> None:
    found = a_main("events {}", directives="daemon off; pid /x; master_process off;")

    assert (found.daemon, found.master_process, found.pid) == (False, False, "/x")


def test_servers_of_stream_and_mail_are_read_and_have_no_default() -> None:
    found = a_main("stream { server { listen 53 udp; } } mail { server { listen 25; } server { protocol imap; } }")

    assert found.listens == (Listen("stream", ("53", "udp")), Listen("mail", ("25",)))


def test_lua_is_passed_over_whatever_braces_it_has() -> None:
    text = 'http { server { location / { content_by_lua_block { local s = "}" -- }\n if x then f({1}) end } } listen 82; } }'

    assert a_main(text).listens == (Listen("http", ("82",)),)


def test_output_without_a_file_is_no_configuration() -> None:
    assert read_configuration("nginx: [emerg] unknown directive\n", CommandLine(NGINX)) is None


def test_the_same_facts_come_from_the_disk_and_from_nginx_itself(tmp_path: Path) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "sites" / "b.conf").write_text("server { listen 127.0.0.1:18099; }\n")
    (tmp_path / "sites" / ".c.conf").write_text("nonsense")
    main = tmp_path / "nginx.conf"
    main.write_text(
        f"pid {tmp_path}/run/nginx.pid; error_log stderr; events {{}}"
        "http { access_log off; include sites/*.conf; server { listen 127.0.0.1:18098; } }"
    )
    command = CommandLine(NGINX, prefix=str(tmp_path), config=str(main))
    printed = subprocess.run(
        [NGINX, "-p", str(tmp_path), "-c", str(main), "-T"], capture_output=True, text=True, check=False
    )

    from_nginx = read_configuration(printed.stderr + printed.stdout, command)

    assert printed.returncode == 0, printed.stderr
    assert from_nginx is not None
    assert from_nginx == read_disk(Machine(), str(main), command)
    assert [listen.words[0] for listen in from_nginx.listens] == ["127.0.0.1:18099", "127.0.0.1:18098"]


def test_a_file_that_includes_itself_ends() -> None:
    machine = RecordedMachine(
        texts={"/a/n.conf": "include n.conf; include b/*; pid /p;", "/a/b/x": "daemon off;"}, names={"/a/b": ("x",)}
    )

    found = read_disk(machine, "/a/n.conf", CommandLine(NGINX))

    assert found is not None
    assert (found.files, found.daemon, found.pid) == (("/a/n.conf", "/a/b/x"), False, "/p")
