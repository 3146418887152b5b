"""Decisions, all pure: the status is a fold over events, and each `decide` gives the actions that the engine carries out.

May import the nouns and `onhost`; it does no input or output.
"""
