"""What the host keeps between visits: store and record, fence and claim, lease.

May import `system` and the protocol.
"""
