"""Logging in to a host, and what the operator is asked for beforehand.

May import only `openssh_config` and `link_errors`.
"""
