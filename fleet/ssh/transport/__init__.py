"""One authenticated SSH connection, through bastions or not.

May import `auth` and `hostkeys`.
"""
