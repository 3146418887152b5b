"""The steps of the procedure. Each waits until its effect can be seen.

May import everything on the host but `visit`.
"""
