"""What nginx is, read only: masters, binary, configuration, logs, answers.

May import `state`, `system` and the protocol.
"""
