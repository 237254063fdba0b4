"""The process that talks to the network: the feed of this site, imports and mirrors.

``child`` is what the agent sees, ``worker`` the process; ``unit`` is that process as a unit of
systemd with a user of its own. What it leaves on the disk is proved by the caller.
"""
