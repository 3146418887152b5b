"""Makes the picture in the README from a real rollout: `python -m tests.support.lab.picture docs/images/rollout.svg`.

A lab of six hosts comes up, `fleet upgrade` runs in a terminal of tmux, and what that terminal shows is kept: once in
mid-rollout, once at the end. Nothing is drawn by hand. Needs root and tmux; takes half a minute.
"""

import io
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from fleet.lab.lab import Lab
from fleet.lab.processes import this_process
from fleet.lab.releases.build import make_release

WIDTH, HEIGHT = 120, 40
MIDDLE, BUSY = "upgrading batch 3 of 3", ": upgrade "
"""What the live view shows in the last batch, and once for each host that is at work: the busiest moment is kept."""
POLL_S, PATIENCE_S = 0.05, 120.0


def main(picture: Path) -> None:
    """The picture is at this path."""
    lab = Lab.up("picture", 6, owner=this_process())
    try:
        with TemporaryDirectory(prefix="fleet-") as folder:
            release = make_release("new", Path(folder) / "nginx-1.22.9")
            middle, end = screens(lab, release)
    finally:
        lab.down()
    draw(middle, end, picture)


def screens(lab: Lab, release: Path) -> tuple[str, str]:
    """The terminal in mid-rollout and at the end, with its colours as escape codes."""
    command = f"fleet upgrade {release.name} --batches 1,2,3 --bake 2s"
    settings = f"FLEET_INVENTORY={lab.inventory} FLEET_JOURNAL={release.with_name('journal.db')} FLEET_YES=1"
    programs = Path(sys.executable).parent
    shell = f"cd {release.parent}; export PATH={programs}:$PATH {settings}; clear; echo '$ {command}'; {command}; "
    shell += "touch over; sleep 600"
    tmux("new-session", "-d", "-x", str(WIDTH), "-y", str(HEIGHT), f"sh -c {shlex.quote(shell)}")
    try:
        middle, until_s = "", time.monotonic() + PATIENCE_S
        while not release.with_name("over").exists():
            if time.monotonic() > until_s:
                raise TimeoutError(f"the rollout did not end; the terminal shows:\n{screen()}")
            shown = screen()
            if MIDDLE in shown and shown.count(BUSY) >= middle.count(BUSY):
                middle = shown
            time.sleep(POLL_S)
        return middle, screen()
    finally:
        tmux("kill-server")


def screen() -> str:
    return tmux("capture-pane", "-e", "-p").rstrip()


def tmux(*words: str) -> str:
    """What a tmux server of our own says."""
    argv = ["tmux", "-L", f"fleet-picture-{os.getpid()}", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def draw(middle: str, end: str, picture: Path) -> None:
    """The two screens below each other; of the second, the lines that are new. No font is fetched from elsewhere."""
    before, after = middle.splitlines(), end.splitlines()
    same = next((n for n, (one, two) in enumerate(zip(before, after, strict=False)) if one != two), len(before))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("\n".join(before)))
    console.print(Text("\n... and at the end:\n", style="dim"))
    console.print(Text.from_ansi("\n".join(after[same:])))
    svg = console.export_svg(title="fleet upgrade", unique_id="rollout")
    picture.write_text(re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.S))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
