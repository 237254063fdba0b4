"""Hands over to :mod:`ncen_updater.agent.cli.main`."""

from ncen_updater.agent.cli.main import main

if __name__ == "__main__":
    main()
