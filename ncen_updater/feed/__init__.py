"""TUF client: download and verify signed releases from the feed or from an offline bundle.

This package uses the network and TUF; it does not know the databases or the application. All
reading code that calls ``tuf`` or ``tufup`` is here, and uses only interfaces that tuf 4 and tuf 7
share. Importing this package imports neither library; ``load_last_view`` needs only the standard
library. ``upgrade_path`` chooses the next release and is pure.
"""

from __future__ import annotations

import os
import sys
import warnings

#: Optional modules that TUF's libraries import: a cloud client, drivers of hardware tokens, a
#: second library for signatures, and detection of a text's encoding.
UNUSED_MODULES = ("boto3", "PyKCS11", "asn1crypto", "nacl", "charset_normalizer")


def block_unused_imports() -> None:
    """Mark optional modules that libraries try to import as not installed, in this process.

    securesystemslib imports an installed cloud client to support its signing keys. That takes a
    third of the time of a check and loads a hundred modules into a process that reads untrusted
    bytes. pydantic searches all installed packages for plugins, of which there are none. A program
    that only reads a feed calls this function before its first import of TUF.
    """
    for name in UNUSED_MODULES:
        # Documented: None in sys.modules makes the import fail.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
