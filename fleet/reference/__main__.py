"""`python -m fleet.reference FOLDER`: write the pages that are made from the code into the folder."""

import sys
from pathlib import Path

from fleet.reference import cli_page, render

PAGES = {"cli.md": cli_page.page, "reasons.md": render.page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(page(), encoding="utf-8")
