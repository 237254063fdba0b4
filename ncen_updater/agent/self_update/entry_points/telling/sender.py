"""Hands over to :mod:`ncen_updater.agent.notifications.sender`."""

import sys

from ncen_updater.agent.notifications.sender import main

if __name__ == "__main__":
    sys.exit(main())
