"""TUF client: download and verify signed releases from the feed or from an offline bundle.

This package uses the network and TUF; it does not know the databases or the application. All
reading code that calls ``tuf`` or ``tufup`` is here, and uses only interfaces that tuf 4 and tuf 7
share. Importing this package imports neither library; ``load_last_view`` needs only the standard
library. ``upgrade_path`` chooses the next release and is pure.
"""

from __future__ import annotations

import sys


def block_unused_imports() -> None:
    """Mark optional modules that TUF's libraries try to import as not installed, in this process.

    securesystemslib imports an installed cloud client to support its signing keys. That takes a
    third of the time of a check and loads a hundred modules into a process that reads untrusted
    bytes. A program that only reads a feed calls this function before its first import of TUF.
    """
    # Documented: None in sys.modules makes the import fail.
    sys.modules.setdefault("boto3", None)  # type: ignore[arg-type]
