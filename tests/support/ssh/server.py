"""A real sshd on a loopback port for one test, and a TCP proxy before it that can freeze."""

import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleet.host import Host
from fleet.onhost.protocol import Layout

SSHD = "/usr/sbin/sshd"
START_TRIES = 5


@dataclass(frozen=True, slots=True)
class Sshd:
    """A running sshd. `host`: the inventory's entry for it, with all settings right."""

    folder: Path
    host: Host

    @property
    def public_key(self) -> str:
        """Type and key, as they stand in known_hosts."""
        return public(self.folder / "host_ed25519")

    @property
    def port(self) -> int:
        return self.host.port or 22

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def know(self, *lines: str) -> None:
        """Writes these lines, and no others, to known_hosts; `{name}` and `{key}` stand for the host's own."""
        name = f"[{self.host.address}]:{self.host.port}"
        self.known_hosts.write_text("".join(line.format(name=name, key=self.public_key) + "\n" for line in lines))


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new private key at `path`."""
    bits = ["-b", "2048"] if kind == "rsa" else []
    subprocess.run(["ssh-keygen", "-q", "-t", kind, *bits, "-a", "1", "-N", passphrase, "-f", path], check=True)
    return path


def certify(authority: Path, key: Path, *words: str) -> Path:
    """A user certificate for root, beside the key; more words are for ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "ann", "-n", "root", *words, f"{key}.pub"], check=True)
    return Path(f"{key}-cert.pub")


def hide(folder: Path, **files: str) -> tuple[str, ...]:
    """The start of a command that sees these texts as the files `/etc/NAME` (`__d__` for `.d/`)."""
    script = ""
    for name, text in files.items():
        (folder / name).write_text(text)
        script += f"mount --bind {folder / name} /etc/{name.replace('__d__', '.d/')} && "
    return ("unshare", "--mount", "--", "/bin/sh", "-c", f'{script}exec "$@"', "sh")


def public(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


def fingerprint(key: Path) -> str:
    """As ssh-keygen shows it."""
    shown = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True)
    return shown.stdout.split()[1]


@contextmanager
def sshd(
    folder: Path,
    *settings: str,
    host_keys: tuple[str, ...] = ("ed25519",),
    address: str = "127.0.0.1",
    within: tuple[str, ...] = (),
) -> Iterator[Sshd]:
    """A private sshd with these further lines in its configuration, until the block ends.

    `within` is a command that executes the one after it, such as `unshare`.
    """
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for kind in host_keys:
        make_key(folder / f"host_{kind}", kind)
    login = make_key(folder / "login")
    (folder / "authorized_keys").write_text(public(login) + "\n")
    for _ in range(START_TRIES):
        port = free_port()
        process = _start(folder, (address, port), host_keys, settings, within)
        if process is not None:
            break
    else:
        raise RuntimeError((folder / "sshd.log").read_text())
    host = Host(
        name="web-01",
        address=address,
        port=port,
        user="root",
        key_files=(str(login),),
        known_hosts=str(folder / "known_hosts"),
        ssh_config="none",
        layout=Layout(state_dir=str(folder / "state")),
    )
    running = Sshd(folder, host)
    running.know("{name} " + public(folder / f"host_{host_keys[0]}"))
    try:
        yield running
    finally:
        process.terminate()
        process.wait()


def _start(
    folder: Path,
    there: tuple[str, int],
    host_keys: tuple[str, ...],
    settings: tuple[str, ...],
    within: tuple[str, ...],
) -> subprocess.Popen[bytes] | None:
    lines = [
        f"ListenAddress [{there[0]}]:{there[1]}",
        *(f"HostKey {folder}/host_{kind}" for kind in host_keys),
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PermitRootLogin yes",
        "StrictModes no",
        "PidFile none",
        *settings,
    ]
    for name, value in (("Subsystem", "sftp internal-sftp"), ("UsePAM", "no")):
        if not any(line.startswith(name) for line in settings):
            lines.append(f"{name} {value}")
    (folder / "sshd_config").write_text("\n".join(line for line in lines if line != "Subsystem none") + "\n")
    log = folder / "sshd.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*within, SSHD, "-D", "-e", "-f", folder / "sshd_config"], stdin=subprocess.DEVNULL, stderr=sink
        )
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(there, timeout=1):
            return process
    return None


def free_port() -> int:
    """A loopback port without a listener."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def deaf(address: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """A port that drops connections: its listener never accepts, and its queue is full."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((address, port))
        listener.listen(0)
        found: int = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex((address, found))
        yield found


class Proxy:
    """Forwards bytes to `port` and back until it freezes: then connections stay open, and no byte passes."""

    def __init__(self, port: int, *, freeze_after_bytes: int | None = None, to: str = "127.0.0.1") -> None:
        self._target = (to, port)
        self._left_bytes = freeze_after_bytes
        self._allowed_bytes: int | None = None
        self._counting = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._frozen = threading.Event()
        self._closed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._stuck: list[bool] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def freeze(self) -> None:
        self._frozen.set()

    def freeze_open(self) -> None:
        """Freezes the connections that are open; those that come later pass."""
        self._frozen.set()
        while not all(self._stuck):
            time.sleep(0.01)
        self._frozen.clear()

    def cut(self) -> None:
        """Ends the connections that are open."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def freeze_after(self, size: int) -> None:
        """Freezes once `size` more bytes have passed."""
        self._left_bytes = size

    def allow(self, size: int) -> None:
        """Lets `size` more bytes pass to the host. From the first call on, no others do."""
        with self._counting:
            self._allowed_bytes = (self._allowed_bytes or 0) + size

    @property
    def is_used_up(self) -> bool:
        """Whether all the bytes that were allowed have passed."""
        return self._allowed_bytes == 0

    def close(self) -> None:
        """Closes every connection, and ends every thread."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def before(self, host: Host) -> Host:
        """The same host through this proxy; known_hosts must hold its port."""
        return replace(host, port=self.port)

    def _accept(self) -> None:
        while not self._closed.is_set():
            if not select.select([self._listener], [], [], 0.05)[0]:
                continue
            near, _ = self._listener.accept()
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            self._stuck.append(False)
            thread = threading.Thread(target=self._pump, args=(near, far, len(self._stuck) - 1))
            self._threads.append(thread)
            thread.start()

    def _pump(self, near: socket.socket, far: socket.socket, number: int) -> None:
        while not self._closed.is_set():
            if self._frozen.is_set():
                self._stuck[number] = True
                self._closed.wait()
                return
            readable = [far] if self.is_used_up else [near, far]
            for source in select.select(readable, [], [], 0.05)[0]:
                with suppress(OSError):
                    most_bytes = 65536
                    if source is near and self._allowed_bytes is not None:
                        most_bytes = min(most_bytes, self._allowed_bytes)
                    if not most_bytes:
                        continue  # `allow` was called since the select
                    data = source.recv(most_bytes)
                    if not data:
                        near.shutdown(socket.SHUT_RDWR)
                        far.shutdown(socket.SHUT_RDWR)
                        return
                    (far if source is near else near).sendall(data)
                    self._count(len(data), source is near)

    def _count(self, size: int, is_to_host: bool) -> None:
        with self._counting:
            if is_to_host and self._allowed_bytes is not None:
                self._allowed_bytes -= size
        if self._left_bytes is not None:
            self._left_bytes -= size
            if self._left_bytes <= 0:
                self.freeze()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
