"""Hands over to :mod:`ncen_updater.agent.service.applying`."""

import sys

from ncen_updater.agent.service.applying import main

if __name__ == "__main__":
    sys.exit(main())
