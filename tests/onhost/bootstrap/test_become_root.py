"""A command on a terminal of its own: what it asks is answered once, what it reads on stdin is never touched.

The real sudo and doas on it: tests/ssh/remote/test_become.py.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from fleet.onhost.bootstrap import become_root
from tests.support.onhost.pythons import Python, found_pythons

CALL = """
import sys
status = converse(Terminal([sys.executable, "-I", "-c", sys.argv[1]]), b"Password: ", b"sec ret", 0.5)
print("status", status)
"""
ASKS = "import getpass, sys; print(getpass.getpass(), sys.stdin.read())"


def carried_out(command: str, given: str = "", python: str = sys.executable) -> tuple[list[str], str]:
    """The lines of stdout, and stderr, of that Python program on a terminal of its own."""
    source = Path(become_root.__file__).read_text() + CALL
    done = subprocess.run(
        [python, "-I", "-S", "-B", "-c", source, command], input=given, capture_output=True, text=True, timeout=60
    )
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("python", found_pythons(), ids=lambda python: python.version)
def test_the_password_is_typed_when_it_is_asked_for_and_stdin_is_the_command_s(python: Python) -> None:
    out, err = carried_out(ASKS, "\r\x03\x04 rest", python.executable)

    assert out == ["sec ret ", "\x03\x04 rest", "status 0"]
    assert "sec ret" not in err


def test_a_command_that_asks_nothing_gets_no_answer() -> None:
    assert carried_out("import sys; print(sys.stdin.read()); sys.exit(7)", "in") == (["in", "status 7"], "")


def test_a_second_question_means_that_the_answer_was_wrong() -> None:
    out, err = carried_out("import getpass; getpass.getpass(); print('no'); getpass.getpass(); print('never')")

    assert out == ["no", f"status {become_root.WRONG}"]
    assert "sec ret" not in err


def test_a_question_that_is_not_known_is_not_answered() -> None:
    out, err = carried_out("import getpass; print(getpass.getpass('Verification code: '))")

    assert out == [f"status {become_root.UNKNOWN_QUESTION}"]
    assert "Verification code:" in err


def test_a_password_that_the_terminal_would_show_is_not_typed() -> None:
    out, _ = carried_out("tty = open('/dev/tty', 'r+b', 0); tty.write(b'Password: '); print(tty.readline())")

    assert out == [f"status {become_root.WRONG}"]


def test_output_on_the_terminal_is_a_complaint() -> None:
    assert carried_out("open('/dev/tty', 'w').write('account locked')") == (["status 0"], "account locked\n")


def test_a_command_that_is_not_there_ends_as_a_shell_ends() -> None:
    source = Path(become_root.__file__).read_text() + "\nprint(converse(Terminal(['/no/sudo']), b'x', None))"

    done = subprocess.run([sys.executable, "-I", "-S", "-c", source], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("127\n", "/no/sudo: No such file or directory\n")


def test_a_line_is_read_and_nothing_after_it(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"first\nsecond")

    with (tmp_path / "in").open("rb", 0) as source:
        assert become_root.read_line(source.fileno()) == b"first"
        assert become_root.read_line(source.fileno()) == b"second"
        assert become_root.read_line(source.fileno()) == b""
