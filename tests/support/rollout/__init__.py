"""Rollouts played step by step, without threads and without real time."""
