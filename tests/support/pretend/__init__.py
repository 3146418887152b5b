"""Pretend hosts: everything above SSH is tried on them."""
