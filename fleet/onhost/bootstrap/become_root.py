"""Becomes root through a sudo or doas that needs a terminal or asks for a password, and answers its question once.

The controller sends the text of this file as the first line of stdin to the login's own Python, before the host has
anything of fleet; so it imports nothing else of fleet. Only the *controlling* terminal is new: stdin, stdout and stderr
stay the pipes that they are, byte for byte, and stdin after the password belongs to the command.

`sudo -S` would not do: it reads stdin whether or not it asked for a password; doas has no such option; and a host with
requiretty needs the terminal anyway. fleet types a rejected password only once: sudo asks up to three times, and reads
the end of its input at the second question.
"""

import fcntl
import os
import pwd
import re
import select
import signal
import termios
from typing import List, Optional

PROMPT = b"fleet-asks:"
# doas has no option for its prompt; every build of it ends the prompt like this.
DOAS_PROMPT = b"assword:"
# Not ^C: sudo misses a signal that arrives between its prompt and its read.
END_OF_INPUT = b"\x04"
BLOCK = 1 << 12
# Seconds without echo and without a known prompt after which the question counts as unknown.
UNANSWERED_S = 4.0
REFUSED_STATUS = 1
COULD_NOT_RUN = 127
UNASKED = "unasked"
# The asterisks that sudo prints for a password (pwfeedback), and their removal. They would reveal its length.
FEEDBACK = re.compile(rb"\*+|\x08 \x08")
# Results of `converse` when it had to end the command.
WRONG = -1
UNKNOWN_QUESTION = -2


class Terminal:
    """A command running on a terminal of its own. `asked` counts its questions for the password."""

    def __init__(self, argv: List[str]) -> None:
        self._wake, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # Held open here: a terminal that no process has open reads as ended.
        self._master, self._slave = os.openpty()
        self.asked = 0
        self.pid = os.fork()
        if self.pid == 0:
            _become(argv, self._slave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def read(self, wait_s: float) -> Optional[bytes]:
        """The bytes written to the terminal; empty when a process ended; `None` when neither happened for `wait_s` seconds."""
        ready = select.select([self._master, self._wake], [], [], wait_s)[0]
        if self._master in ready:
            return os.read(self._master, BLOCK)
        if ready:
            os.read(self._wake, BLOCK)
            return b""
        return None

    def is_secret(self) -> bool:
        """Whether the terminal's echo is off: the command waits for a password."""
        return not termios.tcgetattr(self._slave)[3] & termios.ECHO

    def type(self, text: bytes) -> None:
        """Type this on the terminal."""
        os.write(self._master, text)

    def hang_up(self) -> None:
        """Close the terminal and wait for the command to end."""
        os.close(self._master)
        os.close(self._slave)
        os.waitpid(self.pid, 0)

    def exit_status(self) -> Optional[int]:
        """The command's exit status as a shell gives it; `None` while it runs."""
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if not ended:
            return None
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(argv: List[str], slave: int) -> None:
    """Replace this process by the command, on the terminal, with the default signal handlers."""
    try:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, ("%s: %s\n" % (argv[0], error.strerror)).encode())
    finally:
        os._exit(COULD_NOT_RUN)


def converse(terminal: Terminal, prompt: bytes, secret: Optional[bytes], unanswered_s: float = UNANSWERED_S) -> int:
    """The exit status of the command; `WRONG` when it asked again, `UNKNOWN_QUESTION` when it asks something else.

    The password is typed only in answer to a question, and only while echo is off. Other output on the terminal goes to
    stderr.
    """
    heard = b""
    while True:
        more = terminal.read(unanswered_s)
        heard += more or b""
        if prompt in heard:
            before, _, heard = heard.partition(prompt)
            _tell(before.rpartition(b"\n")[0])
            terminal.asked += 1
            if secret is None or terminal.asked > 2 or not terminal.is_secret():
                terminal.hang_up()
                return WRONG
            terminal.type(secret + b"\n" if terminal.asked == 1 else END_OF_INPUT)
        status = terminal.exit_status()
        if status is not None:
            _tell(heard)
            return status if terminal.asked < 2 else WRONG
        if more is None and terminal.is_secret():
            _tell(heard)
            terminal.hang_up()
            return UNKNOWN_QUESTION


def _tell(text: bytes) -> None:
    message = FEEDBACK.sub(b"", text).strip()
    if message:
        os.write(2, message + b"\n")


def main(method: str, argv: List[str], source: int = 0) -> int:
    """Run `argv` as root by `method`; the next line of `source` is the password, empty when there is none.

    If it does not become root, the last line says so: `fleet-missing become-(wrong|denied|password|asks) METHOD USER`.
    """
    secret = read_line(source) or None
    if method == "doas":
        how = ["doas", "--"] if secret else ["doas", "-n", "--"]
    else:
        how = ["sudo", "-k", "-p", PROMPT.decode(), "--"] if secret else ["sudo", "-n", "--"]
    os.environ["LC_ALL"] = "C"
    try:
        terminal = Terminal(how + argv)
    except OSError as error:
        # Without a password sudo has already printed what is missing.
        _say("terminal" if secret else "password", method, error.strerror or "")
        return REFUSED_STATUS
    status = converse(terminal, DOAS_PROMPT if method == "doas" else PROMPT, secret)
    if status == UNKNOWN_QUESTION:
        _say("asks", method)
    elif status == WRONG or (status == REFUSED_STATUS and method == "doas" and terminal.asked):
        _say("wrong", method)
    elif status == REFUSED_STATUS and secret:
        _say("denied", method, "" if terminal.asked else UNASKED)
    elif status == REFUSED_STATUS:
        _say("password", method)
    return status if status >= 0 else REFUSED_STATUS


def _say(what: str, method: str, why: str = "") -> None:
    """Print the word and the user. It is also printed after a command that did begin and ended with 1."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = "#%d" % os.getuid()
    os.write(1, ("\nfleet-missing become-%s %s %s %s\n" % (what, method, user, why)).encode("utf-8", "replace"))


def read_line(source: int) -> bytes:
    """The next line without its end. Not a byte more is read, because the rest belongs to the command."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(source, 1)
        if not byte:
            break
        line += byte
    return line.rstrip(b"\n")
