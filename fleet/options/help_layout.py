"""The titles of the groups in `--help`.

An option names its group with `panel=`. A command's groups stand in the order of its first option of each, and the
options of a group in the order of their declaration.
"""

HOSTS = "Hosts and release"
ROLLOUT = "Rollout"
SAFETY = "Safety"
CONNECTION = "Connection"
LOCKS = "Journal and locks"
OUTPUT = "Output"
LAB = "Lab"

ARGUMENTS = "Arguments"
COMMANDS = "Commands"
HELP = "Help"
"""The group of `--help` and `--version`."""

ERRORS = {"theme": "default-slim"}
"""How rich_click draws an error: without frames."""
