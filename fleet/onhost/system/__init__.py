"""The operating system, one subject a file.

Imports nothing of fleet but itself.
"""
