"""Whether the key that a host shows is accepted, and how a new one is stored.

May import only `openssh_config` and `link_errors`.
"""
