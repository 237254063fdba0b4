"""Worker process that uses the network: the feed of this site, imports and mirrors.

``worker_source`` is the agent's side, ``worker`` the process: a child, or a systemd unit with its
own user. The caller verifies the files that the process writes.
"""
