"""Whether a host's key is accepted, and where a new key is stored.

May import only `openssh_config` and `link_errors`.
"""
