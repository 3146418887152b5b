"""Steady HTTP clients against every host, and the count of the requests that failed.

Imports nothing of the lab: the clients run in a process of their own, against any address.
"""
