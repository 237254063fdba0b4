"""What a stable code means, in one sentence, and what to do about it.

Values of the error that happened are not told: they may quote the database. Imports the modules of
errors of the whole package; used by the process that sends, and by the support bundle.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import lru_cache

import ncen_updater
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import PLACE, Text

__all__ = ["Reason", "reason"]

#: What stands for a value.
HIDDEN = "…"
Reason = tuple[Text, Text]


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(ncen_updater.__path__, "ncen_updater."):
        if found.name.endswith("errors") and ".publisher" not in found.name:
            yield found.name


def _classes(base: type[UpdaterError]) -> Iterator[type[UpdaterError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _classes(kind)


@lru_cache(maxsize=1)
def _by_code() -> dict[str, type[UpdaterError]]:
    for name in _modules():
        importlib.import_module(name)
    found: dict[str, type[UpdaterError]] = {}
    for kind in _classes(UpdaterError):
        if "code" in vars(kind):
            found.setdefault(kind.code, kind)
    return found


def _hidden(template: str) -> Text:
    return Text(template, dict.fromkeys(PLACE.findall(template), HIDDEN))


def reason(code: str) -> Reason | None:
    """Return what happened and what to do; None for a code that is not known here."""
    kind = _by_code().get(code)
    return (_hidden(kind.what), _hidden(kind.remedy)) if kind is not None else None
