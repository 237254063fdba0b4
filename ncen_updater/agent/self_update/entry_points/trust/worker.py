"""Hands over to :mod:`ncen_updater.feed.worker`."""

import sys

from ncen_updater.feed.worker import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
