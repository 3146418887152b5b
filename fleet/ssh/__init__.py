"""How a visit reaches its host: one SSH connection, the bundle, the release, the conversation with the step script.

This package is the only door to Fabric, paramiko and scp. From outside: `session.visit` and its three siblings.
"""
