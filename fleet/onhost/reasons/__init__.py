"""The catalogue of reasons: every word that a host can give, with its message and remedy.

Imports only the protocol; the other rooms import `catalogue`.
"""
