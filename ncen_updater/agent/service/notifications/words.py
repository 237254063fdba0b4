"""The sentences of news: what happened, and what people do about it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo

from ncen_updater.agent.model.notification_kind import NotificationKind
from ncen_updater.agent.service.notifications.news import Notification
from ncen_updater.common.cli.render import format_scheduled_time
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.reasons import CodeExplanation, has_hidden_values

Explain = Callable[[str], CodeExplanation | None]

TITLES: Mapping[NotificationKind, str] = {
    NotificationKind.AVAILABLE: N_("Release {version} is available."),
    NotificationKind.REHEARSED: N_(
        "Release {version} was rehearsed on copies of your data, and passed."
    ),
    NotificationKind.REHEARSAL_FAILED: N_(
        "The rehearsal of release {version} failed. Nothing was changed."
    ),
    NotificationKind.WAITING_FOR_APPROVAL: N_(
        "Release {version} waits for approval; people still needed: {missing}."
    ),
    NotificationKind.APPROVED: N_("Release {version} was approved by {by}."),
    NotificationKind.ROLLBACK_APPROVED: N_("Going back to release {version} was approved by {by}."),
    NotificationKind.RESTORE_APPROVED: N_(
        "{by} said that the databases, as they are, belong to release {version}."
    ),
    NotificationKind.EMERGENCY_ROLLBACK: N_(
        "{by} goes back from {from} to {version} without the approvals that it takes: an emergency."
    ),
    NotificationKind.APPROVAL_VOID: N_("The approval of release {version} no longer holds."),
    NotificationKind.SCHEDULED: N_("The upgrade to {version} may begin at {at}, as {by} chose."),
    NotificationKind.SCHEDULE_CANCELLED: N_(
        "The time that was chosen for the upgrade to {version} was taken back by {by}."
    ),
    NotificationKind.UPGRADE_UPCOMING: N_("The upgrade to {version} begins at {at}."),
    NotificationKind.UPGRADED: N_("Upgraded from {from} to {version}. Officers can work."),
    NotificationKind.UPGRADE_FAILED: N_(
        "The upgrade from {from} to {version} failed and was undone: {from} runs."
    ),
    NotificationKind.ROLLED_BACK: N_("Went back from {from} to {version}. Officers can work."),
    NotificationKind.ROLLBACK_FAILED: N_(
        "Going back from {from} to {version} was undone: {from} runs."
    ),
    NotificationKind.INTERVENTION_REQUIRED: N_("A person has to look at the agent of this site."),
    NotificationKind.FEED_EXPIRING: N_("The lists of the feed lapse in {days} days, at {at}."),
    NotificationKind.FEED_EXPIRED: N_("The lists of the feed have lapsed, at {at}."),
    NotificationKind.RELEASE_WITHDRAWN: N_(
        "Release {version}, which runs here, was withdrawn by the Secretariat."
    ),
    NotificationKind.APPLICATION_STARTED: N_(
        "The application ({version}) did not run, and was started."
    ),
    NotificationKind.APPLICATION_DOWN: N_(
        "Officers cannot work: the application ({version}) does not run, or does not answer as it "
        "should, since {at} at the latest."
    ),
    NotificationKind.APPLICATION_UP: N_(
        "Officers can work again; the application had been down since {at}."
    ),
    NotificationKind.STOPPED: N_(
        "Somebody stopped the application while its new release was watched."
    ),
    NotificationKind.AGENT_UPDATED: N_(
        "The agent has renewed itself: version {version} is in use."
    ),
    NotificationKind.AGENT_REVERTED: N_(
        "Version {version} of the agent did not work; the one before is used."
    ),
    NotificationKind.DISK_SPACE_LOW: N_(
        "A disk of this site is getting full: {free_percent} % is free."
    ),
}
_REMEDIES: Mapping[NotificationKind, str] = {
    NotificationKind.REHEARSAL_FAILED: N_(
        "Officers notice nothing. Send the Secretariat a support bundle."
    ),
    NotificationKind.WAITING_FOR_APPROVAL: N_("Read the dossier, then run: ncen-updater approve"),
    NotificationKind.APPROVAL_VOID: N_(
        "Something changed since. Read the dossier again, and approve anew."
    ),
    NotificationKind.UPGRADE_FAILED: N_(
        "It is not tried again by itself for a while. See: ncen-updater history"
    ),
    NotificationKind.RESTORE_APPROVED: N_(
        "Two people have to say so. Ask why; once both have, the reasons are in: ncen-updater"
        " history"
    ),
    NotificationKind.EMERGENCY_ROLLBACK: N_(
        "Ask why; the reason that was given is in: ncen-updater history"
    ),
    NotificationKind.ROLLED_BACK: N_("See: ncen-updater history"),
    NotificationKind.ROLLBACK_FAILED: N_("See: ncen-updater status"),
    NotificationKind.INTERVENTION_REQUIRED: N_("Log in, and run: ncen-updater doctor"),
    NotificationKind.FEED_EXPIRING: N_(
        "Check the way to the feed; where media are used, import a new bundle."
    ),
    NotificationKind.FEED_EXPIRED: N_(
        "The application goes on. No release is taken until a new list is there."
    ),
    NotificationKind.RELEASE_WITHDRAWN: N_("See what is advised with: ncen-updater status"),
    NotificationKind.APPLICATION_STARTED: N_(
        "Nobody had stopped it: see in the log of the system why it was not up."
    ),
    NotificationKind.STOPPED: N_("The release is judged again once the application is started."),
    NotificationKind.APPLICATION_DOWN: N_(
        "No change is open here: the agent did not stop it. See: ncen-updater status"
    ),
    NotificationKind.AGENT_REVERTED: N_("Nothing is to be done here. Tell the Secretariat."),
    NotificationKind.DISK_SPACE_LOW: N_(
        "Make room before the next upgrade; 'ncen-updater plan' says how much it needs."
    ),
}
DOWNTIME = N_("Officers were kept out for {stop}.")
DOWNTIME_AND_PREDICTION = N_("Officers were kept out for {stop}; predicted were {low} to {high}.")
PREDICTED_DOWNTIME = N_("Officers will be kept out for {low} to {high}.")
RECORD_COUNTS = N_(
    "Records that get a new code: {mapped}; without a target: {unmapped}; checks: {checks}."
)
APPROVE_AGAIN = N_("An approval is for one try: each who had approved has to approve again.")
#: What stands where a value is not known.
UNKNOWN = "?"


def format_span(seconds: float) -> str:
    """Return a duration in figures and units that every language reads: ``4 min 10 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _fill_template(template: str, notification: Notification, zone: tzinfo) -> LazyText:
    values: dict[str, object] = dict.fromkeys(
        ("from", "version", "missing", "by", "at", "days", "free_percent"), UNKNOWN
    )
    values.update(notification.values)
    moment = notification.values.get("at")
    if isinstance(moment, str):
        values["at"] = format_scheduled_time(datetime.fromisoformat(moment), zone)
    return LazyText(template, values)


def format_title(notification: Notification, zone: tzinfo) -> LazyText:
    """Return the one sentence that says what happened."""
    return _fill_template(TITLES[notification.kind], notification, zone)


def format_notification(
    notification: Notification, zone: tzinfo, explain: Explain
) -> list[LazyText]:
    """Return everything that is said of one thing, its title first.

    Args:
        notification: What happened.
        zone: Zone of the site, for times.
        explain: Says what a code means.
    """
    lines = [format_title(notification, zone), *_format_figures(notification)]
    code = notification.values.get("code")
    known = explain(code) if isinstance(code, str) else None
    if isinstance(code, str) and known is not None and not has_hidden_values(known[0]):
        lines.append(LazyText(N_("Reason {code}: {what}"), {"code": code, "what": known[0]}))
    elif isinstance(code, str):
        # Half a sentence helps nobody, and what belongs into its gaps may quote the databases.
        text = N_("Reason {code}: 'ncen-updater history' on the server says it in full.")
        lines.append(LazyText(text, {"code": code}))
    if known is not None and not has_hidden_values(known[1]):
        lines.append(known[1])
    if notification.values.get("approvals"):
        lines.append(LazyText(APPROVE_AGAIN))
    if notification.kind in _REMEDIES:
        lines.append(_fill_template(_REMEDIES[notification.kind], notification, zone))
    return lines


def _format_figures(notification: Notification) -> list[LazyText]:
    found = []
    values = notification.values
    low, high, stop = (
        _format_seconds(values.get(name)) for name in ("low_s", "high_s", "downtime_s")
    )
    if stop is not None and low is not None and high is not None:
        found.append(LazyText(DOWNTIME_AND_PREDICTION, {"stop": stop, "low": low, "high": high}))
    elif stop is not None:
        found.append(LazyText(DOWNTIME, {"stop": stop}))
    elif low is not None and high is not None:
        found.append(LazyText(PREDICTED_DOWNTIME, {"low": low, "high": high}))
    if notification.kind is NotificationKind.REHEARSED:
        names = ("mapped", "unmapped", "checks")
        found.append(LazyText(RECORD_COUNTS, {name: values.get(name, UNKNOWN) for name in names}))
    return found


def _format_seconds(value: object) -> str | None:
    return format_span(value) if isinstance(value, int | float) else None
