"""The options of the command line: their types, their order in `--help`, and what the commands share.

May import `environment` and the nouns; only `cli`, `lab.cli` and `reference` import it.
"""
