"""The lab: real sshd and nginx on pretend hosts of this machine, for tests, `fleet demo` and trying things out.

May import only `onhost` and the nouns of fleet.
"""
