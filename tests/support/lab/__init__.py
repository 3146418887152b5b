"""Operators, faults and eyes for the tests on lab hosts."""
