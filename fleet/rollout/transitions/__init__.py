"""What an event of one host makes of its status.

May import the host's status and the gate's verdict; `fleet/rollout/rollout_status.py` imports it.
"""
