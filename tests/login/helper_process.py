"""The helper for one connection, as systemd starts it, with rules of PAM that a trial wrote.

python -m tests.login.helper_process CONSOLE_UID SOCKET TRIES RULES
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

from ncen_updater.login.helper import PAM_SERVICE_NAME, LoginHelper
from ncen_updater.login.login_throttle import LoginThrottle
from ncen_updater.login.pam import PamService


def main() -> None:
    """Serve the connection that is the standard input."""
    console, service, tries, rules = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with socket.socket(fileno=os.dup(0)) as line:
        pam = PamService(PAM_SERVICE_NAME, Path(rules))
        LoginHelper(line, int(console), Path(service), pam, LoginThrottle(Path(tries)), 0.0).run()


if __name__ == "__main__":
    main()
