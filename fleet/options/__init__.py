"""The options of the command line: their types, their order in `--help`, and what the commands share.

May import `environment`, `plan` and `task`; only `cli` and `lab.cli` import it.
"""
