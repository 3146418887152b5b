"""One module per command, with a `run` that returns the exit code.

May import `runs` and everything below it; `demo` imports `lab`, too. `declarations` has the options, and imports a command
when it is called.
"""
