"""Findings: the results of preflight, doctor and verify."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.common.i18n import LazyText


class Severity(StrEnum):
    """Severity of a finding."""

    CRITICAL = "critical"  # blocks the upgrade
    WARNING = "warning"  # reported; the operator decides
    INFO = "info"  # a fact for the plan and the dossier


@dataclass(frozen=True)
class Finding:
    """A finding, with its remedy.

    Attributes:
        code: Stable code, as for errors.
        severity: Whether it blocks.
        title: Description with values.
        remedy: What the operator can do.
        figures: The values for programs (bytes, counts, names).
    """

    code: str
    severity: Severity
    title: LazyText
    remedy: LazyText
    figures: Mapping[str, object] = field(default_factory=dict)


def make_finding(
    code: str, severity: Severity, title: str, remedy: str, /, **figures: object
) -> Finding:
    """Make a finding; the figures fill both sentences."""
    return Finding(code, severity, LazyText(title, figures), LazyText(remedy, figures), figures)
