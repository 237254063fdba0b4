"""tufup's client, imported without the rest of tufup.

``tufup/__init__.py`` imports the publishing side and setuptools, which takes a fifth of the time
and a tenth of the memory of a check of the feed. So the client is imported without running that
file. Other code that imports ``tufup``, before or after, gets the complete package.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

TUFUP_PACKAGE = "tufup"


def _import_client() -> Any:  # noqa: ANN401 - a module without types
    """Return the module ``tufup.client``."""
    spec = None if TUFUP_PACKAGE in sys.modules else find_spec(TUFUP_PACKAGE)
    if spec is not None:
        sys.modules[TUFUP_PACKAGE] = module_from_spec(
            spec
        )  # lets submodules be found; its code is not run
    try:
        return import_module(f"{TUFUP_PACKAGE}.client")
    finally:
        if spec is not None:
            del sys.modules[TUFUP_PACKAGE]


Client = _import_client().Client
