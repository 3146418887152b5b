"""Where the tree that is tested lies."""

from pathlib import Path

import fleet

ROOT = Path(fleet.__file__).parents[1]
"""The root of the repository."""
