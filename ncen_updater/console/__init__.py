"""The web console: a process of its own, which knows the agent by its API alone.

It runs as the person who started it, has no rights of its own, and shows nothing but what the
service answers to that person. ``program`` starts it, ``app`` answers, ``pages`` says what each of
them shows: documents of the service in, values of a template out.
"""
