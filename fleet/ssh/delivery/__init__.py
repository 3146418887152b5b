"""What a host must have before it can be asked: the bundle and the release.

May import `remote` and what is below it.
"""
