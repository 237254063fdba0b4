"""Trials of a broken new agent and of kills during an agent update: a working agent remains.

The processes are real: the failsafe as it is installed, and minimal agents with the real code of a
trial (confirmation, selection, journal, watchdog) and no other work. ``supervisor`` replaces
systemd; ``agents`` lists how an agent is broken.
"""
