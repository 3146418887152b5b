"""What the operator types reaches only the host that asks for it: searched for everywhere while fleet really runs."""

import fcntl
import json
import os
import pickle
import select
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleet.host import Host
from fleet.ssh.auth.secrets import SECRETS, SecretKind
from tests.support.private_nginx import wait_until
from tests.support.ssh.ordinary import PASSWORD, USER, Ordinary, ordinary
from tests.support.ssh.stubs import a_task

FORMS = tuple(
    {
        PASSWORD.encode(),
        json.dumps(PASSWORD)[1:-1].encode(),
        json.dumps(PASSWORD, ensure_ascii=False)[1:-1].encode(),
        repr(PASSWORD)[1:-1].encode(),
        repr(PASSWORD.encode())[2:-1].encode(),
    }
)
ASKED = b"Password of sudo for deploy: "
UNLOCKS = b"/login: "
"""The end of the question for the key's passphrase."""
INVENTORY = """\
all:
  hosts:
    web-01:
      ansible_host: 127.0.0.1
      ansible_port: {port}
      ansible_user: {user}
      ansible_become: true
      ansible_ssh_private_key_file: {key}
      fleet_known_hosts: {known_hosts}
      fleet_ssh_config: none
      fleet_state_dir: {state}
      nginx_pid_file: {state}-nginx/nginx.pid
      nginx_binary: {state}-nginx/nginx
"""


class Watching:
    """Reads the arguments and the environment of every process of this machine (both ends of SSH are here), until closed."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.commands: set[bytes] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._closed.is_set():
            for name in os.listdir("/proc"):
                if name.isdigit():
                    self._see(Path("/proc", name))

    def _see(self, process: Path) -> None:
        for what in ("cmdline", "environ"):
            try:
                text = (process / what).read_bytes()
            except OSError:  # it has ended
                return
            if what == "cmdline":
                self.commands.add(text.replace(b"\0", b" "))
            if any(form in text for form in FORMS):
                self.found.add(f"{process}/{what}")


@dataclass(frozen=True, slots=True)
class Ran:
    code: int
    out: str
    shown: bytes


def typed(words: list[str], environment: dict[str, str]) -> Ran:
    """The result of `fleet WORDS` at a terminal where every prompt is answered with the password."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet", *words],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    shown, said = b"", b""
    assert process.stdout is not None
    open_ends = [master, process.stdout.fileno()]
    while open_ends:
        for end in select.select(open_ends, [], [])[0]:
            try:
                more = os.read(end, 1 << 16)
            except OSError:  # the terminal was closed
                more = b""
            if not more:
                open_ends.remove(end)
            elif end == master:
                shown += more
                if shown.endswith((ASKED, UNLOCKS)):
                    os.write(master, PASSWORD.encode() + b"\n")
            else:
                said += more
    os.close(master)
    process.stdout.close()
    return Ran(process.wait(), said.decode(), shown)


def files_with_it(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and any(form in path.read_bytes() for form in FORMS):
                yield path


def an_operator(machine: Ordinary, folder: Path) -> dict[str, str]:
    """The environment of an operator whose inventory names that host."""
    inventory = folder / "hosts.yaml"
    inventory.write_text(
        INVENTORY.format(
            port=machine.sshd.port,
            user=USER,
            key=machine.sshd.host.key_files[0],
            known_hosts=machine.sshd.known_hosts,
            state=machine.sshd.host.layout.state_dir,
        )
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    own = {"FLEET_INVENTORY": str(inventory), "FLEET_JOURNAL": str(folder / "journal.db"), "NO_COLOR": "1"}
    return {**kept, **own, "XDG_STATE_HOME": str(folder)}


def test_the_password_is_in_no_argument_environment_log_journal_or_file(tmp_path: Path) -> None:
    """The password of sudo, and the passphrase of the key: here they are the same text."""
    log = tmp_path / "events.log"
    words = ["upgrade", "/usr/sbin/nginx", "-y", "-v", "-K", "--output", "jsonl", "--log-file", str(log)]
    with ordinary() as machine:
        machine.allow(f"{USER} ALL=(root) /bin/sh")
        key = machine.sshd.host.key_files[0]
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", PASSWORD, "-f", key], check=True, capture_output=True)
        watching = Watching()
        try:
            ran = typed(words, an_operator(machine, tmp_path))
        finally:
            watching.close()
        left = [*files_with_it(tmp_path, machine.folder)]
        stored = [*Path(machine.sshd.host.layout.state_dir).glob("bundles/*/fleet.pyz")]
        counted = machine.failed_logins

    # It was used: asked for once, taken by sudo, and the step script answered as root.
    assert ran.shown.count(ASKED) == 1
    assert ran.shown.count(f"Passphrase of {key}: ".encode()) == 1
    assert any(command.startswith(b"sudo -k -p fleet-asks: -- /bin/sh -c ") for command in watching.commands)
    assert len(stored) == 1
    assert counted == 0
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["transfer"] for event in events if event["type"] == "note"] == ["exec"], ran.out
    # No master here is that host's; which word says so depends on whether tests beside this one run an nginx.
    (answered,) = [event["reason"] for event in events if event["type"] == "visit_ended"]
    assert answered in ("no_master", "several_masters"), ran.out
    # And it is nowhere.
    assert log.stat().st_size > 0
    assert (tmp_path / "journal.db").stat().st_size > 0
    assert watching.found == set()
    assert left == []
    assert not any(form in ran.out.encode() + ran.shown for form in FORMS)


def test_the_search_would_find_it(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(json.dumps({"message": f"it is {PASSWORD}!"}))
    watching = Watching()
    with (
        subprocess.Popen(["sleep", "60"], env={"A": PASSWORD}) as one,
        subprocess.Popen(["sh", "-c", "read x", PASSWORD], stdin=subprocess.PIPE) as two,
    ):
        wanted = {f"/proc/{one.pid}/environ", f"/proc/{two.pid}/cmdline"}
        wait_until(lambda: wanted <= watching.found, "both were seen")
        one.kill()
        two.kill()
    watching.close()

    assert [*files_with_it(tmp_path)] == [tmp_path / "log"]


def test_a_task_and_the_secrets_themselves_show_none() -> None:
    SECRETS.put(SecretKind.BECOME, PASSWORD)
    SECRETS.put(SecretKind.PASSPHRASE, PASSWORD, "/key")
    carried = pickle.dumps(a_task(Host(name="web-01", address="web-01", become=True)))
    shown = f"{SECRETS!r} {SECRETS}".encode()
    SECRETS.forget()

    assert not any(form in carried + shown for form in FORMS)
