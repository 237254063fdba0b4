"""Render pages to bytes; file responses and job labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import partial

from ncen_updater.common.cli.render import format_duration, format_time, group_digest
from ncen_updater.common.html_templates import render_page
from ncen_updater.common.i18n import N_, LazyText, list_languages, translate
from ncen_updater.console.page_request import PageContent
from ncen_updater.console.service_client import PREPARATORY_JOBS, Document
from ncen_updater.console.web_request import PAGE_POLICY

TEMPLATE_PACKAGE = "ncen_updater.console"
#: Names of the languages in those languages; others are shown by their code.
LANGUAGE_NAMES = {
    "ar": "العربية", "de": "Deutsch", "en": "English", "es": "Español", "fr": "Français",
    "pt": "Português", "ru": "Русский", "sw": "Kiswahili", "zh": "中文",
}  # fmt: skip


def parse_time(text: str) -> datetime:
    """Parse a timestamp of the service."""
    return datetime.fromisoformat(text)


def compute_age_s(text: str, now: datetime) -> float:
    """Return the seconds since a timestamp, at least 0."""
    return max(0.0, (now - parse_time(text)).total_seconds())


def format_soak_period(change: Document, now: datetime, zone: tzinfo | None) -> LazyText | None:
    """Return the soak period of a change with its planned end; None without one.

    A planned end in the past is omitted: an outage pauses the timer.
    """
    until = change.get("soak_ends_at")
    if until is None:
        return None
    values = {"version": change["to"], "until": format_time(parse_time(until), zone)}
    if parse_time(until) <= now:
        return LazyText(N_("Soak period: {version}"), values)
    return LazyText(N_("Soak period of {version} until {until}"), values)


def render_response(
    shown: PageContent,
    language: str,
    *,
    now: datetime,
    zone: tzinfo | None = None,
    token: object = None,
    site: Document | None = None,
    address: str = "/",
    notice: LazyText | None = None,
    styles: str = "",
    ends_with_terminal: bool = True,
    navigable: bool = True,
    requires_password: bool = False,
) -> bytes:
    """Render a page.

    Args:
        shown: Content of the page.
        language: Language of the page.
        now: The current time.
        zone: Time zone of displayed times; by default that of the machine.
        token: Returns the token of a form for its path; None without a session.
        site: Last known status, for the page header.
        address: Path of the page.
        notice: Notice about the form that was submitted before.
        styles: Digest of the static files.
        ends_with_terminal: Whether the console ends with the terminal that started it.
        navigable: Whether to show the navigation of a site's pages.
        requires_password: Whether decisions require the user's password.
    """
    values: dict[str, object] = {
        "when": lambda text: format_time(parse_time(text), zone).render(language),
        "ago": lambda text: format_duration(compute_age_s(text, now)).render(language),
        "took": lambda seconds: format_duration(seconds).render(language),
        "soak_period": lambda change: format_soak_period(change, now, zone),
        "word": partial(translate, language=language),
        "digits": group_digest,
        "languages": [(name, LANGUAGE_NAMES.get(name, name)) for name in list_languages()],
        "token": token or (lambda _: ""),
        "inside": token is not None,
        "page": shown.template,
        "state": shown.state,
        "refresh_s": shown.refresh_s,
        "site": site,
        "address": address,
        "notice": notice,
        "styles": styles,
        "ends_with_terminal": ends_with_terminal,
        "navigable": navigable,
        "requires_password": requires_password,
        "harmless": PREPARATORY_JOBS,
    }
    return render_page(
        TEMPLATE_PACKAGE, f"{shown.template}.html", language, **{**values, **shown.values}
    )


@dataclass(frozen=True)
class FileResponse:
    """Response with bytes other than a rendered page.

    Attributes:
        content: The body.
        content_type: Value of ``Content-Type``.
        headers: Additional headers.
        content_security_policy: Value of ``Content-Security-Policy``.
        allows_framing: Whether a page of the console may embed it in a frame.
    """

    content: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    content_security_policy: str = PAGE_POLICY
    allows_framing: bool = False


#: Labels of the kinds of jobs.
JOB_KINDS: Mapping[str, str] = {
    "check": N_("check"),
    "prepare": N_("download"),
    "rehearse": N_("rehearsal"),
    "upgrade": N_("upgrade"),
    "rollback": N_("rollback"),
    "resume": N_("resume"),
    "self-update": N_("update of ncen-updater"),
    "import": N_("import"),
}


def describe_job(job: Document) -> tuple[str, str, Document | None]:
    """Return tone, label and error of a job without a change. Pure."""
    if job["ended_at"] is None:
        return "wait", N_("In progress") if job["started_at"] else N_("Queued"), None
    result = job["result"] or {}
    error = (result.get("document") or {}).get("error")
    if result.get("interrupted"):
        return "bad", N_("Interrupted"), error
    if error:
        return "bad", N_("Failed"), error
    return "good", N_("Completed"), None
