"""The acts of the procedure, one after the other seen to have worked.

May import everything but `visit`.
"""
