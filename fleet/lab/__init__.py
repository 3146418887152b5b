"""Real sshd and nginx on pretend hosts of this machine.

May import only `onhost` and the nouns of fleet.
"""
