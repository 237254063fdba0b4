"""Labels that terminal and browser share: holds, steps, start of an upgrade, codes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final

from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_duration, format_scheduled_time, format_time
from ncen_updater.common.i18n import N_, PLACEHOLDER, LazyText, translate
from ncen_updater.common.messages import find_message

#: Why a release on offer cannot be installed now.
RELEASE_EXCLUDED: Final = N_("Not available for this site: {version} ({reason})")
#: What follows the soak period of a release that is not the last of its upgrade path.
NEXT_ON_PATH: Final = N_("Then the upgrade to {version} begins, with a further downtime.")


def format_hold(hold: Mapping[str, str | None], zone: tzinfo | None = None) -> LazyText:
    """Describe since when upgrades are on hold, until when, and who set the hold.

    Args:
        hold: The hold in the site's status document.
        zone: The site's time zone; that of the machine by default.
    """
    values: dict[str, object] = {
        "by": strip_control_characters(hold["actor"] or "-"),
        "reason": strip_control_characters(hold["reason"] or "-"),
        "since": format_time(datetime.fromisoformat(hold["since"] or ""), zone),
    }
    until = hold.get("until")
    if until is None:
        return LazyText(N_("Upgrades on hold since {since} by {by}: {reason}"), values)
    template = N_("Upgrades on hold since {since} until {until} by {by}: {reason}")
    end = format_scheduled_time(datetime.fromisoformat(until), zone)
    return LazyText(template, {**values, "until": end})


#: A failed action of the service.
FAILED_ACTION: Final = N_("Failed: {what} ({code}; {times} attempts, last {at}). Run: {command}")


def find_failure_command(action: str) -> str:
    """Return the command that shows the cause of a failed action of the service."""
    return "ncen-updater history" if action == "rehearse" else "journalctl -u ncen-updater"


def format_upgrade_path(versions: Sequence[str]) -> LazyText:
    """Describe an upgrade path: the next release and the following ones."""
    values = {"version": versions[0], "following": ", ".join(versions[1:])}
    return LazyText(N_("{version}, then {following}") if versions[1:] else "{version}", values)


WEEKDAY_NAMES: Final = (
    N_("Monday"), N_("Tuesday"), N_("Wednesday"), N_("Thursday"), N_("Friday"), N_("Saturday"),
    N_("Sunday"),
)  # fmt: skip
#: Reasons for which the start time of an upgrade is not known, by the value of ``WaitReason``.
WAIT_LABELS: Final[Mapping[str, str]] = {
    "hold": N_("The upgrade waits for the end of the hold."),
    "nothing-on-offer": N_("No release available for this site."),
    "notify-only": N_("The upgrade does not start automatically. An operator starts it."),
    "not-prepared": N_("The upgrade waits for the download."),
    "not-rehearsed": N_("The upgrade waits for the rehearsal."),
    "rehearsal-failed": N_("The upgrade does not start automatically: the rehearsal failed."),
    "approval": N_("The upgrade waits for approval: {count} missing."),
    "not-scheduled": N_(
        "The upgrade does not start automatically: no maintenance window is configured."
    ),
    "no-window": N_("The upgrade does not start automatically: no maintenance window opens."),
    "service-not-running": N_(
        "The upgrade does not start automatically: the service is stopped."
        " Start the service, or run: ncen-updater upgrade"
    ),
    "superseded": N_("The upgrade waits for another approved upgrade."),
    "unknown": N_("The next upgrade could not be determined. The service tries again."),
}


def format_predicted_downtime(likely_s: float, high_s: float) -> LazyText:
    """Describe a predicted downtime. Pure."""
    values = {"likely": format_duration(likely_s), "high": format_duration(high_s)}
    return LazyText(N_("about {likely} (at most {high})"), values)


def format_upgrade_start(start: Mapping[str, Any] | None, zone: tzinfo | None = None) -> LazyText:
    """Describe in one sentence when an upgrade starts.

    Args:
        start: The record ``UpgradeStart`` as JSON; None if the service does not report it.
        zone: The site's time zone; that of the machine by default.
    """
    if start is None:
        return LazyText(N_("The start time is unknown."))
    if start["kind"] == "now":
        return LazyText(N_("The upgrade starts immediately."))
    if start["kind"] == "at" and start["at"]:
        at = datetime.fromisoformat(start["at"])
        day = LazyText(WEEKDAY_NAMES[at.astimezone(zone).weekday()])
        values = {"day": day, "at": format_scheduled_time(at, zone)}
        return LazyText(N_("The upgrade starts on {day} {at}."), values)
    text = WAIT_LABELS.get(start["wait_reason"], N_("The upgrade does not start automatically."))
    return LazyText(text, {"count": start.get("missing_approvals")} if "{count}" in text else {})


#: Labels by step name; each completes "it failed while ...", and precedes a number of seconds.
STEP_LABELS: Final[Mapping[str, str]] = {
    "fetch": N_("downloading and verifying the release"),
    "build-slot": N_("unpacking the release"),
    "preflight": N_("running preflight checks"),
    "maintenance-on": N_("showing the maintenance page"),
    "stop": N_("stopping the application"),
    "fence": N_("closing the databases to connections"),
    "final-preflight": N_("rerunning preflight checks on the databases"),
    "copy": N_("copying the databases"),
    "migrate": N_("migrating the databases"),
    "cut-over": N_("switching to the migrated databases"),
    "switch": N_("switching the release"),
    "start": N_("starting the application"),
    "health": N_("waiting for the health check"),
    "commit": N_("committing the change"),
    "maintenance-off": N_("removing the maintenance page"),
    "soak": N_("soak period"),
    "prune": N_("pruning"),
}


def get_step_label(name: str, kind: str) -> str:
    """Return the English label of a step; the name itself if it is unknown (a newer journal).

    Args:
        name: Name of the step in the journal.
        kind: Kind of the change: ``upgrade`` or ``rollback``.
    """
    if (name, kind) == ("fetch", "rollback"):  # a rollback needs no feed
        return N_("verifying the release")
    return STEP_LABELS.get(name, name)


def translate_step_label(name: str, kind: str, language: str) -> str:
    """Return the label of a step in a language.

    Args:
        name: Name of the step in the journal.
        kind: Kind of the change: ``upgrade`` or ``rollback``.
        language: The language.
    """
    return translate(get_step_label(name, kind), language)


#: Replaces unknown values.
HIDDEN_VALUE = "…"


CodeExplanation = tuple[LazyText, LazyText]


#: Shown if a template consists of a value only.
DEPENDS_ON_CAUSE = N_("Depends on the cause. Run: ncen-updater history")


def _hide_values(template: str) -> LazyText:
    if not PLACEHOLDER.sub("", template).strip():
        return LazyText(DEPENDS_ON_CAUSE)
    return LazyText(template, dict.fromkeys(PLACEHOLDER.findall(template), HIDDEN_VALUE))


def has_hidden_values(sentence: LazyText) -> bool:
    """Return whether a sentence of :func:`explain_code` lacks the values of the error."""
    return HIDDEN_VALUE in sentence.values.values()


def explain_code(code: str) -> CodeExplanation | None:
    """Return title and remedy of a code; None for an unknown code."""
    message = find_message(code)
    return (
        (_hide_values(message.title), _hide_values(message.remedy)) if message is not None else None
    )


def format_withdrawal(product: str, version: str, reason: str, advice: str) -> Iterator[LazyText]:
    """Yield that the installed release was withdrawn, with the Secretariat's advice."""
    values = {
        "product": product,
        "version": version,
        "reason": strip_control_characters(reason),
        "advice": strip_control_characters(advice),
    }
    yield LazyText(
        N_("WITHDRAWN by the Secretariat: {product} {version} (installed). Reason: {reason}"),
        values,
    )
    if advice:
        yield LazyText(N_("  What to do: {advice}"), values)
