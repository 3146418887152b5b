"""nginx binaries whose masters don't hear signals, as with a library that changes masks and handlers."""

import re
import signal
from pathlib import Path

from fleet.lab.releases.build import DEFAULT_BASE
from fleet.lab.releases.elf import Executable

MASTER_LOOP = "ngx_master_process_cycle"
LOOP_BYTES = 0x200
CALL = b"\xe8"
NOTHING = b"\x0f\x1f\x44\x00\x00"  # nopl: as long as a call
UNUSED = 60


def where_the_mask_opens(binary: bytes) -> int:
    """The file offset of the call that empties the mask for sigsuspend() (x86_64).

    The master's loop begins with sigemptyset(), adds what it handles, blocks that, and calls sigemptyset() again.
    """
    start = Executable(binary, str(DEFAULT_BASE)).function(MASTER_LOOP)
    calls = [at for at in range(start, start + LOOP_BYTES) if binary[at : at + 1] == CALL]
    targets = {at: at + int.from_bytes(binary[at + 1 : at + 5], "little", signed=True) for at in calls}
    first = next(at for at in calls if list(targets.values()).count(targets[at]) == 2)
    return next(at for at in calls if at > first and targets[at] == targets[first])


def that_blocks(folder: Path) -> Path:
    """An nginx whose master blocks all signals that it handles: each one stays pending."""
    binary = bytearray(DEFAULT_BASE.read_bytes())
    at = where_the_mask_opens(bytes(binary))
    binary[at : at + len(NOTHING)] = NOTHING
    return written(folder, bytes(binary))


def that_does_not_handle_usr2(folder: Path) -> Path:
    """An nginx that installs the handler of USR2 for another signal: USR2 would end it."""
    before, own, after = (re.escape(number(one)) for one in (signal.SIGQUIT, signal.SIGUSR2, signal.SIGALRM))
    entry = re.compile(rb"(%s.{24})%s(.{24}%s)" % (before, own, after), re.DOTALL)
    binary, count = entry.subn(lambda found: found[1] + number(UNUSED) + found[2], DEFAULT_BASE.read_bytes())
    assert count == 1
    return written(folder, binary)


def number(signum: int) -> bytes:
    """A signal's number in nginx's table of signals, with the padding after it."""
    return signum.to_bytes(8, "little")


def written(folder: Path, binary: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nginx"
    path.write_bytes(binary)
    path.chmod(0o755)
    return path
