"""Where a probe connects, and what it asks there: a URL of `fleet_probes`, taken apart.

A UNIX socket is spelled as in nginx's own `proxy_pass`: `http://unix:/run/nginx.sock:/health`, with everything up to the
second colon as the path of the socket. The inventory reads a URL with the same function as the host, so that both agree.
"""

from typing import NamedTuple, Optional
from urllib.parse import urlsplit

SCHEMES = ("http", "https")
UNIX = "unix:"
LOCALHOST = "localhost"
MOST_PATH_BYTES = 107  # sun_path in unix(7), without the NUL at its end: nginx can listen on no longer one.


class Target(NamedTuple):
    """`unix` is the path of a UNIX socket; for TCP it is `None`. `authority` is the Host header, `path` has the query."""

    is_tls: bool
    host: str
    port: int
    unix: Optional[str]
    authority: str
    path: str


def read_target(url: str) -> Target:
    """The target of a URL. Raises `ValueError`, with what is wrong."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in SCHEMES or not separator:
        raise ValueError("it begins with neither http:// nor https://")
    if " " in url or "#" in url or not url.isprintable():
        raise ValueError("it has a space, a control character or a fragment (#)")
    is_tls = scheme.lower() == "https"
    if rest[: len(UNIX)].lower() == UNIX:
        return _of_socket(is_tls, rest[len(UNIX) :])
    return _of_address(is_tls, url)


def _of_socket(is_tls: bool, rest: str) -> Target:
    """The target of `PATH[:URI]`, as nginx reads it after `unix:`."""
    socket, _, path = rest.partition(":")
    if not socket.startswith("/") or socket.endswith("/"):
        raise ValueError("the path of the socket is not absolute, or names a folder")
    if len(socket.encode("utf-8")) > MOST_PATH_BYTES:
        raise ValueError("the path of the socket has more than %d bytes" % MOST_PATH_BYTES)
    if path and not path.startswith("/"):
        raise ValueError("what follows the second colon is not a path")
    return Target(is_tls, LOCALHOST, 0, socket, LOCALHOST, path or "/")


def _of_address(is_tls: bool, url: str) -> Target:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    if parts.username is not None:
        raise ValueError("it contains a user")
    if parts.port == 0:
        raise ValueError("it has port 0")
    path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    port = parts.port or (443 if is_tls else 80)
    return Target(is_tls, parts.hostname, port, None, parts.netloc, path)
