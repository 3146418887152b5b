"""What systemd is asked of nginx's unit, and told.

May import `system`.
"""
