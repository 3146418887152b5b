"""What runs on a host before the package can: receive the bundle, unpack it, become root.

`receive` and `become_root` are sent as text and import nothing of fleet; `unpack` imports the protocol and `reasons`.
"""
