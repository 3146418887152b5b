"""Steady HTTP clients against every host, and the count of what they did not get."""
