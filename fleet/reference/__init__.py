"""The pages of `docs/` that are made from the code.

May import everything; only `./dev docs` and tests import it.
"""
