"""Hands over to :mod:`ncen_updater.agent.self_update.imports`."""

import sys

from ncen_updater.agent.self_update.imports import main

if __name__ == "__main__":
    sys.exit(main())
