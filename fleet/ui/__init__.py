"""What people see: the output streams, one line per event, the live view, the tables and documents of results.

Reads events and status and never changes them. May import every floor below, but not `commands`, `cli` or `options`.
"""
