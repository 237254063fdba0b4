"""Whether a site is left without a working agent by a new one that is broken, or by kills.

Real processes: the failsafe as it is installed, and agents in miniature whose trial (probation,
choice, journal, signs of life) is the real code and whose work is nothing. ``supervisor`` stands in
for systemd; ``agents`` says how each kind of agent is broken.
"""
