"""One module per command, with a `run` that returns the exit code; the other modules are what commands share.

May import everything below the command line. `cli` declares the options and imports a command when it is called.
"""
