"""What is loaded of a bundle stays loaded where its entry runs once more in the same process."""

import subprocess
import sys
from pathlib import Path

from fleet.ssh.delivery.bundle import GENERIC, bundles

SCRIPT = """\
import runpy, sys
bundle = sys.argv[1]
sys.path.insert(0, bundle)
from fleet.onhost.bootstrap import start
sys.path.remove(bundle)
start.prepare(bundle)
from fleet.onhost import __main__ as entry
before = set(sys.modules)
entry.main = lambda: print(sorted(name for name in set(sys.modules) - before if name.startswith("fleet")))
runpy.run_path(bundle, run_name="__main__")
"""


def test_the_entry_of_a_fork_loads_nothing_again(tmp_path: Path) -> None:
    bundle = tmp_path / "fleet.pyz"
    bundle.write_bytes(bundles()[GENERIC].data)

    ran = subprocess.run(
        [sys.executable, "-I", "-B", "-c", SCRIPT, str(bundle)], capture_output=True, text=True, check=False
    )

    assert (ran.stdout, ran.stderr) == ("[]\n", "")
