"""A command that runs as root on a host.

May import `transport` and what is below it.
"""
