"""The process that talks to the network: the feed of this site, imports and mirrors.

``worker_source`` is the agent's side, ``worker`` the process: a child, or a systemd unit with a
separate user. The caller verifies what the process leaves on the disk.
"""
