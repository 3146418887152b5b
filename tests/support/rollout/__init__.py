"""Rollouts played by hand: without threads, without time."""
