"""Comparison of a site's reports with its state. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Codes of the findings that a database is missing, and that one is closed.
MISSING, CLOSED = ("NU-4065", "NU-4102", "NU-4221"), ("NU-4016",)
AS_BEFORE = "no data loss"


@dataclass(frozen=True)
class Truth:
    """State of the site, read without the agent.

    Attributes:
        live: Live databases by physical name, and whether each accepts connections; None if it is
            missing.
        user_can_work: Whether a user can enter a case.
        maintenance_off: Whether the maintenance page is off.
        open_change: Whether a change is unfinished.
        bad: Releases that were made to fail.
        replaced: Databases that were replaced while the last change had closed them.
        undone: Whether the last change was reverted.
        final: Whether every action was undone and the release works, so that nothing may be
            reported.
    """

    live: Mapping[str, bool | None]
    user_can_work: bool
    maintenance_off: bool = True
    open_change: bool = False
    bad: frozenset[str] = frozenset()
    replaced: tuple[str, ...] = ()
    undone: bool = False
    final: bool = False


@dataclass(frozen=True)
class SiteReport:
    """Reports of a site's commands.

    Attributes:
        status: ``status`` as text.
        document: ``status`` as JSON.
        doctor: Findings of ``doctor``.
        history: ``history`` of the last change as text.
    """

    status: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)
    doctor: Sequence[Mapping[str, Any]] = ()
    history: str = ""


def find_false_statements(report: SiteReport, truth: Truth) -> list[str]:
    """Return statements that are false, and facts that were not reported."""
    return [*_databases(report, truth), *_doctor(report, truth), *_status(report, truth)]


def _databases(report: SiteReport, truth: Truth) -> list[str]:
    wrong = []
    findings = [(str(f.get("code")), str(f.get("title"))) for f in report.doctor]
    texts = " ".join(f"{what} {f.get('detail') or ''}" for (_, what), f in zip(
        findings, report.doctor, strict=True))  # fmt: skip
    for name, takes in truth.live.items():
        logical = name.rsplit("_", 1)[-1]
        for code, what in findings:
            named = _names(what, name) or _names(what, logical)
            if code in MISSING and named and takes is not None:
                wrong.append(f"doctor says that {name} is missing: {what}")
            if code in CLOSED and named and takes:
                wrong.append(f"doctor says that {name} is closed: {what}")
        known = _names(texts, name) or _names(texts, logical)
        if takes is None and not known:
            wrong.append(f"doctor says nothing of {name}, which is missing")
        if takes is False and not truth.open_change and not known:
            wrong.append(f"doctor says nothing of {name}, which is closed")
    return wrong


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def _doctor(report: SiteReport, truth: Truth) -> list[str]:
    if not truth.final:
        return []
    return [
        f"doctor holds against a site that was put right: {f.get('code')} {f.get('title')}"
        for f in report.doctor
        if f.get("severity") == "critical"
    ]


def _status(report: SiteReport, truth: Truth) -> list[str]:
    wrong = []
    running = report.document.get("running") or {}
    state = (running.get("availability") or {}).get("state")
    if state == "available" and not truth.user_can_work:
        wrong.append("status says that users can work, and none can")
    if (
        truth.final
        and state not in ("available", None)
        and truth.user_can_work
        and truth.maintenance_off
    ):
        wrong.append(f"status says {state}, and users work")
    journal = report.document.get("journal") or {}
    for row in journal.get("bad_releases") or ():
        if row.get("version") not in truth.bad:
            wrong.append(f"{row.get('version')} is called bad ({row.get('code')}), and is not")
    if truth.replaced and truth.undone:
        for where, text in (("status", report.status), ("history", report.history)):
            if AS_BEFORE in text and not any(_names(text, name) for name in truth.replaced):
                wrong.append(f"{where} says of replaced databases that all is as before")
    return wrong
