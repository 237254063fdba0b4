"""Real agent releases, good and broken, under a real systemd: a Debian system in a container.

The package is installed as on a server. The agents after it are built from this checkout and broken
in all known ways. They are published, fetched by the unit that reads the feed, and installed by the
unit that works on the site. Needs root, and a Debian tree of its own::

    debootstrap --variant=minbase
    --include=systemd,systemd-sysv,dbus,python3,python3-venv,init-system-helpers,adduser,procps,libpq5
    trixie TREE
    script/debian DIST
    script/agent-release RELEASE 3.13
    python -m benchmarks.debian --tree TREE --package DIST/ncen-updater_*.deb --release RELEASE

Only the times of a trial are shortened, by the configuration (``confirm_agent_s``) and by additions
to the unit.
"""
