"""A probe's URL is taken apart as nginx itself would read it."""

import pytest

from fleet.onhost.nginx.probe_target import Target, read_target


def unix(socket: str, path: str, is_tls: bool = False) -> Target:
    return Target(is_tls, "localhost", 0, socket, "localhost", path)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1/health", Target(False, "127.0.0.1", 80, None, "127.0.0.1", "/health")),
        ("https://www.example.net", Target(True, "www.example.net", 443, None, "www.example.net", "/")),
        ("http://[::1]:8080/x?y=1", Target(False, "::1", 8080, None, "[::1]:8080", "/x?y=1")),
        ("HTTPS://Web:8443/", Target(True, "web", 8443, None, "Web:8443", "/")),
        ("http://unix/health", Target(False, "unix", 80, None, "unix", "/health")),
        ("http://unix:/run/n.sock:/health", unix("/run/n.sock", "/health")),
        ("http://unix:/run/n.sock", unix("/run/n.sock", "/")),
        ("http://unix:/run/n.sock:", unix("/run/n.sock", "/")),
        ("https://unix:/run/n.sock:/a:b?c=/d", unix("/run/n.sock", "/a:b?c=/d", is_tls=True)),
        ("HTTP://UNIX:/tmp/a-b_c.0:/", unix("/tmp/a-b_c.0", "/")),
        ("http://unix:/%2F:/", unix("/%2F", "/")),
        ("http://unix:/" + "n" * 106, unix("/" + "n" * 106, "/")),
    ],
)
def test_a_url_names_an_address_or_a_socket_and_a_path(url: str, target: Target) -> None:
    assert read_target(url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1/health",
        "/run/n.sock",
        "unix:/run/n.sock:/health",
        "ftp://127.0.0.1/",
        "http+unix://%2Frun%2Fn.sock/",
        "http:/127.0.0.1/",
        "http://",
        "http://:80/",
        "http://web:0/",
        "http://web:99999/",
        "http://web:port/",
        "http://ada@web/",
        "http://web/#top",
        "http://web/a b",
        "http://web/\n",
        "http://unix:",
        "http://unix:/",
        "http://unix:relative.sock:/x",
        "http://unix:./n.sock:/x",
        "http://unix:8080/x",
        "http://unix:@abstract:/x",
        "http://unix:/run/:/x",
        "http://unix:/run/n.sock:x",
        "http://unix:/run/n.sock:?x=1",
        "http://unix:/" + "n" * 107,
        "http://unix:/" + "ü" * 54,
    ],
)
def test_what_nginx_could_not_listen_on_or_no_client_ask_for_is_no_target(url: str) -> None:
    with pytest.raises(ValueError, match="."):
        read_target(url)
