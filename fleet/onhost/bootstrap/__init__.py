"""What runs on a host before the package can: receive, unpack, become root.

Each file runs alone or imports only the protocol.
"""
