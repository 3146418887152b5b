"""What people see: text made safe, the live view, output streams, tables.

May import events, status and results; never changes them.
"""
