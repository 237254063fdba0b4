"""Findings: the rows that preflight, doctor and verify report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.common.i18n import LazyText


class Severity(StrEnum):
    """How much a finding weighs."""

    CRITICAL = "critical"  # nothing may begin while it stands
    WARNING = "warning"  # said, and left to the operator
    INFO = "info"  # a fact, for the plan and the dossier


@dataclass(frozen=True)
class Finding:
    """One thing found, with its remedy.

    Attributes:
        code: Stable code, as for errors.
        severity: Whether it blocks.
        title: What was found, with figures.
        remedy: What the operator does about it.
        figures: The same figures for programs (bytes, counts, names).
    """

    code: str
    severity: Severity
    title: LazyText
    remedy: LazyText
    figures: Mapping[str, object] = field(default_factory=dict)


def make_finding(
    code: str, severity: Severity, title: str, remedy: str, **figures: object
) -> Finding:
    """Make a finding; the figures fill both sentences."""
    return Finding(code, severity, LazyText(title, figures), LazyText(remedy, figures), figures)
