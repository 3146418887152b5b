"""`python -m fleet.reference FILE`: write `docs/reasons.md`."""

import sys
from pathlib import Path

from fleet.reference.render import page

if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
