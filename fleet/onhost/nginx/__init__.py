"""What nginx is, read only: its masters, binary, configuration, logs and answers.

May import `state` and `system`.
"""
