"""A command that runs as root on a host: `root_command.RootCommand`.

May import `transport` and the packages below it.
"""
