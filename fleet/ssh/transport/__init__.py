"""One authenticated SSH connection, directly, through bastions or through a ProxyCommand.

May import `auth`, `hostkeys` and the modules below them.
"""
