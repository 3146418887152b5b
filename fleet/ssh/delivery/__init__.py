"""What a host needs before it can take a request: the bundle and the release.

May import `remote` and the packages below it.
"""
