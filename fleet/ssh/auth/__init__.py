"""Being let in by a host, and what a person is asked for beforehand.

May import only `openssh_config` and `link_errors`.
"""
