"""The machine trial: the package in a real Debian under systemd, on a disk whose power is cut.

A Debian system with PostgreSQL, nginx and the stand-in is booted by its own systemd in namespaces
of this machine's kernel, on ext4 over a disk with a volatile write cache (:mod:`.disk`, served by
:mod:`.nbd` through ``nbdfuse`` and a loop device). The agent is installed by the lines of its
guide. See ``benchmarks/README.md``; ``python -m benchmarks.machine --help``.
"""
