"""TUF client: download and verify signed releases from the feed or from an offline bundle.

This package uses the network and TUF; it does not know the databases or the application. All
reading code that calls ``tuf`` or ``tufup`` is here, and uses only interfaces that tuf 4 and tuf 7
share. Importing this package imports neither library; ``load_last_view`` needs only the standard
library. ``upgrade_path`` chooses the next release and is pure.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import warnings

#: Optional modules that TUF's libraries import: a cloud client, drivers of hardware tokens, a
#: second library for signatures, and detection of a text's encoding.
UNUSED_MODULES = ("boto3", "PyKCS11", "asn1crypto", "nacl", "charset_normalizer")


def prepare_process() -> None:
    """Spare this process work at its start and end; called before its first import of TUF.

    Optional modules are marked as not installed. securesystemslib imports an installed cloud client
    to support its signing keys, which takes a third of the time of a check and loads a hundred
    modules into a process that reads untrusted bytes. pydantic would search all installed packages
    for plugins, of which there are none. The garbage collector would search the imported modules
    several times, and once more at the end; that takes a tenth of the time of a check.
    """
    for name in UNUSED_MODULES:
        # Documented: None in sys.modules makes the import fail.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
