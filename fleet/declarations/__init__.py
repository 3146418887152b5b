"""The commands, declared: arguments, options and help.

May import `options`, and a command of `commands` inside the function that runs it, so that `fleet --help` stays quick.
"""
