"""The lab: real sshd and nginx on pretend hosts of this machine, for tests, `fleet demo` and trying things out.

May import the nouns of fleet; its `cli` imports `options`, too.
"""
