"""Becomes root by a sudo or doas that insists on a terminal or asks for a password, and answers what it asks once.

The controller sends this file's text as the first line of stdin to a Python of the login's own, before there is anything
of fleet on the host, so it imports nothing else of fleet. Only the *controlling* terminal is new: stdin, stdout and
stderr stay the pipes that they are, byte for byte, and what comes on stdin after the password is the command's.

Why not `sudo -S`: it reads whatever comes, asked for or not; doas can't; and a host with requiretty needs the terminal
anyway. A password that was refused is not typed again: sudo asks three times, and meets the end of its input at the second.
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
# doas can't be told what to ask; this is how it ends in every build of it.
DOAS_PROMPT = b"assword:"
# Not ^C: sudo misses a signal that comes between its question and its reading.
END_OF_INPUT = b"\x04"
BLOCK = 1 << 12
# How long somebody may wait for what isn't shown before it is clear that we don't know the question: whoever stops showing
# what is typed asks at once.
UNANSWERED_S = 4.0
REFUSED_STATUS = 1
COULD_NOT_RUN = 127
UNASKED = "unasked"
# What sudo shows of a password that is typed (pwfeedback), and how it takes that away: its length is nobody's business.
FEEDBACK = re.compile(rb"\*+|\x08 \x08")
# What `converse` returns when the command was not allowed to end by itself.
WRONG = -1
UNKNOWN_QUESTION = -2


class Terminal:
    """A command under way on a terminal of its own. `asked` is how often it has asked for the password."""

    def __init__(self, argv: List[str]) -> None:
        self._wake, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # It is held open here: a terminal that nobody has open just now would be at its end.
        self._master, self._slave = os.openpty()
        self.asked = 0
        self.pid = os.fork()
        if self.pid == 0:
            _become(argv, self._slave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def read(self, wait_s: float) -> Optional[bytes]:
        """What was written to the terminal; nothing when a process ended; `None` when neither was so for `wait_s`."""
        ready = select.select([self._master, self._wake], [], [], wait_s)[0]
        if self._master in ready:
            return os.read(self._master, BLOCK)
        if ready:
            os.read(self._wake, BLOCK)
            return b""
        return None

    def is_secret(self) -> bool:
        """Whether what is typed now would not be shown: somebody waits for a password."""
        return not termios.tcgetattr(self._slave)[3] & termios.ECHO

    def type(self, text: bytes) -> None:
        """The command reads this from the terminal."""
        os.write(self._master, text)

    def hang_up(self) -> None:
        """The terminal is gone, and the command has ended."""
        os.close(self._master)
        os.close(self._slave)
        os.waitpid(self.pid, 0)

    def exit_status(self) -> Optional[int]:
        """The command's exit status as a shell has it; `None` while it runs."""
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if not ended:
            return None
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(argv: List[str], slave: int) -> None:
    """This process is the command, with the terminal; what Python changed of the signals is undone."""
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

    The password is typed when it is asked for, and only where it isn't shown. What else is said on the terminal goes to
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
    said = FEEDBACK.sub(b"", text).strip()
    if said:
        os.write(2, said + b"\n")


def main(method: str, argv: List[str], source: int = 0) -> int:
    """Runs `argv` as root by `method`; the next line of `source` is the password, empty when there is none.

    When it did not become root, a last line says so: `fleet-missing become-(wrong|denied|password|asks) METHOD USER`.
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
        # Without a password sudo has said before what it misses.
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
    """The word, and to whom it happened. A command that did begin and ended with 1 is followed by one, too."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = "#%d" % os.getuid()
    os.write(1, ("\nfleet-missing become-%s %s %s %s\n" % (what, method, user, why)).encode("utf-8", "replace"))


def read_line(source: int) -> bytes:
    """The next line without its end; not a byte more is read, because the rest is the command's."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(source, 1)
        if not byte:
            break
        line += byte
    return line.rstrip(b"\n")
