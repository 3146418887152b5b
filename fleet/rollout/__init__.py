"""Decisions, all pure: the status is a fold over events, and each `decide` gives the actions that the engine carries out.

May import the nouns (events, task, host) and `fleet.onhost`; never ssh, journal, engine or a face.
"""
