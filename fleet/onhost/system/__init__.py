"""The operating system, one subject in each file.

Imports nothing else of fleet, but from `bootstrap` the psutil that sends signals.
"""
