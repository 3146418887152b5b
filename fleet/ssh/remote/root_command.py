"""A command that runs as root on a host: the start line, becoming root, and the first word are all in this one class.

A caller starts one of the three commands, calls `begin`, and then reads `lines` and sends to it. What the login prints
before the begin (motd, a noisy .bashrc) is passed over.
"""

import logging
from collections.abc import Callable, Iterator

from fleet.onhost.text import safe
from fleet.ssh.link_errors import HostRefused, LinkError
from fleet.ssh.remote import start_line
from fleet.ssh.remote.become import Become, refusal_of
from fleet.ssh.remote.command import Command
from fleet.ssh.remote.start_line import BECOME_WORDS, BEGIN, Platform, find_python, missing_platform
from fleet.ssh.transport.connection import Link

START_S = 60.0
"""How long a login may take to begin: a login shell may read slow files, and Python starts slowly on a busy host."""

log = logging.getLogger("fleet.ssh")


class RootCommand(Command):
    """A command under way. `has_begun`: it runs as root. `platform`: that of a host which has no bundle to run."""

    def __init__(self, link: Link, script: str) -> None:
        """Starts the script in the login shell. Raises `HostRefused` for a path that not every login shell can be given."""
        host = link.host
        start_line.quoted(host.layout.state_dir)
        self._become = Become(host)
        super().__init__(link, start_line.login_line(self._become.wrapped(script, find_python(host.python))))
        self._patience_s: Callable[[], float] = lambda: START_S
        self._every_line = super().lines(lambda: self._patience_s())
        self.has_begun = False
        self.platform: Platform | None = None

    @classmethod
    def run_bundle(cls, link: Link, keys: tuple[str, ...]) -> "RootCommand":
        """Runs the first of these bundles that the host has, by the Python text on the first line of its stdin."""
        host = link.host
        return cls(link, start_line.run_script(keys, host.layout.state_dir, host.python))

    @classmethod
    def run_text(cls, link: Link) -> "RootCommand":
        """Runs the Python text on the first line of its stdin."""
        return cls(link, start_line.text_script(link.host.python))

    @classmethod
    def run_shell(cls, link: Link, script: str) -> "RootCommand":
        """Runs a POSIX shell script, as root only where the inventory says how (`ansible_become`)."""
        return cls(link, start_line.shell_script(script))

    def begin(self, proceed: Callable[[], object]) -> bool:
        """Whether the command itself speaks from now on. Otherwise it has ended: see `platform` and `ended_early`.

        `proceed` is called at least once a second; what it raises ends the wait. Raises `HostRefused` when the command can't
        run there or may not become root, and what `Command.lines` raises: `silent` after `START_S`.
        """

        def patience_s() -> float:
            proceed()
            return START_S

        self._patience_s = patience_s
        try:
            for line in self._every_line:
                self.has_begun = self._handle_login_line(line, proceed)
                if self.has_begun or self.platform is not None:
                    break
        finally:
            self._become.report(None)
        return self.has_begun

    def lines(self, pulse: Callable[[], float]) -> Iterator[bytes]:
        """The lines after the begin, as `Command.lines` gives them."""
        self._patience_s = pulse
        for line in self._every_line:
            if self._become.is_wanted(line):
                self.close_stdin()  # the command ran, and ended with the status by which sudo refuses: it is not run again
            else:
                yield line

    def ended_early(self) -> LinkError:
        """Why there is no answer: the link was lost, the login ran nothing, or the command ended before it was done."""
        status = self.exit_status()
        if status is None and self._link.is_active:
            # sshd ends the commands of a connection before the connection, which looks alive for a moment longer.
            try:
                self._link.check_alive()
            except LinkError as failure:
                return failure
        if not self._link.is_active:
            return LinkError("link_lost", "The connection was lost.", "Run fleet status.")
        ended = "without an exit status" if status is None else f"with exit status {status}"
        detail = f": {self.stderr}" if self.stderr else ""
        log.warning("%s: the remote command ended %s%s", self._link.host.name, ended, detail)
        if not self.has_begun:
            return HostRefused(
                "no_shell",
                f"The login ended {ended} without running fleet's command{detail}.",
                "See that the login shell runs commands (getent passwd USER), and that ForceCommand in sshd_config does.",
            )
        return LinkError(
            "script_died",
            f"The step script ended {ended} before it was done{detail}.",
            "Run fleet status. If the script ends like this again, it is a bug of fleet: keep the log.",
        )

    def _handle_login_line(self, line: bytes, proceed: Callable[[], object]) -> bool:
        """Whether this line is the begin. Answers the host if it waits; raises `HostRefused` if it names what it lacks."""
        if self._become.is_wanted(line):
            self._answer(line, proceed)
            return False
        self._become.observe(line, self._sudo_message)
        self.platform = missing_platform(line)
        if self.platform is None and line.startswith(BECOME_WORDS):
            words = safe(line[len(BECOME_WORDS) :].decode("utf-8", "replace"))
            raise refusal_of(words, self._sudo_message())
        start_line.refuse_missing(line)
        if line == BEGIN:
            self.progressed()
        return line == BEGIN

    def _answer(self, line: bytes, proceed: Callable[[], object]) -> None:
        answer = self._become.answer(line, proceed)
        if answer is None:
            self.close_stdin()  # it ran, and ended with the status by which sudo refuses
        else:
            self.send(answer)
            self.progressed()  # the time that sudo took without a password doesn't count

    def _sudo_message(self) -> str:
        """What sudo itself printed. It comes on stderr, and may come later than the host's own words."""
        self.close_stdin()
        self.exit_status()
        return self.stderr
