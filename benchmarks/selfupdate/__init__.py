"""Trials of a broken new agent and of kills during an agent update: a working agent remains.

Real processes: the failsafe as it is installed, and agents in miniature whose trial (probation,
choice, journal, signs of life) is the real code and whose work is nothing. ``supervisor`` stands in
for systemd; ``agents`` says how each kind of agent is broken.
"""
