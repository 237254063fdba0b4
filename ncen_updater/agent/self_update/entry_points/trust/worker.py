"""Hands over to :mod:`ncen_updater.agent.reader.worker`."""

import sys

from ncen_updater.agent.reader.worker import main

if __name__ == "__main__":
    sys.exit(main())
