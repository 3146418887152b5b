"""The kinds of hosts that `fleet lab up --with KIND` makes: each is odd in one way that preflight must find.

May import `hosts`, for its paths and its nginx configuration.
"""
