"""Recorded hosts and a model nginx for the tests of the step script."""
