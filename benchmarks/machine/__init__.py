"""The machine trial: the package in a real Debian under systemd, with power cuts of its disk.

A Debian system with PostgreSQL, nginx and the stand-in application is booted by its own systemd in
namespaces of this machine's kernel. It uses ext4 on a disk with a volatile write cache
(:mod:`.disk`, served by :mod:`.nbd` through ``nbdfuse`` and a loop device). The agent is installed
with the commands of its guide. See ``benchmarks/README.md``; ``python -m benchmarks.machine
--help``.
"""
