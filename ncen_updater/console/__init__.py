"""The web console: a process and a user of its own, which knows the agent by its API alone.

Its place; there is nothing in it yet.
"""
