"""The pages of `docs/` that are made from the code.

May import the catalogues of reasons; only `./dev docs` and tests import it.
"""
