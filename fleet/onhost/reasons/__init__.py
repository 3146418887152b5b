"""Every sentence that a host can say, by its word.

Imports only the protocol; `catalogue` is the door.
"""
