"""Findings: the results of checks, such as preflight, doctor, verify and lint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import ErrorMessage


class Severity(StrEnum):
    """Severity of a finding."""

    CRITICAL = "critical"  # blocks the upgrade or release
    WARNING = "warning"  # reported; the operator decides
    INFO = "info"  # a fact for the plan and the dossier


@dataclass(frozen=True)
class Finding:
    """A finding, with its remedy.

    Attributes:
        code: Stable code, as for errors.
        severity: How serious it is; a critical one blocks.
        title: Description with values.
        remedy: What the operator can do.
        figures: Values of both sentences (bytes, counts, names), for programs.
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


def report_finding(
    message: ErrorMessage, severity: Severity | None = None, /, **figures: object
) -> Finding:
    """Make the finding of a message; the figures fill both sentences.

    Args:
        message: A message with a severity.
        severity: Another severity than the usual one.
        **figures: The figures.
    """
    usual = severity or Severity(message.severity or Severity.CRITICAL)
    return make_finding(message.code, usual, message.title, message.remedy, **figures)
