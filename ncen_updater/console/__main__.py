"""``python -m ncen_updater.console``: how ``ncen-updater console`` starts it."""

from __future__ import annotations

import sys

from ncen_updater.console.program import main

sys.exit(main())
