"""One request from its arrival to its outcome.

May import everything on the host.
"""
