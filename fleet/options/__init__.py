"""The options of the command line: their types, their order in `--help`, and what the commands share.

May import `environment` and the nouns; only `cli`, `declarations`, `lab.cli` and `reference` import it.
"""
