"""All checks: every function of this package that says it is one."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from ncen_updater.agent.engine.preflight.base import (
    CHECK_ATTRIBUTE,
    CheckRegistration,
    PreflightCheck,
)


def list_checks(*, upgrade: bool = True) -> tuple[PreflightCheck, ...]:
    """Return the checks in the order in which they are reported.

    Args:
        upgrade: Whether the change is an upgrade; some checks ask of nothing else.
    """
    package = __name__.rpartition(".")[0]
    found: dict[int, PreflightCheck] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            mark = getattr(value, CHECK_ATTRIBUTE, None)
            if not isinstance(mark, CheckRegistration) or (mark.upgrade_only and not upgrade):
                continue
            if found.setdefault(mark.position, value) is not value:
                raise ValueError(f"two checks have the place {mark.position}")
    return tuple(check for _place, check in sorted(found.items()))
