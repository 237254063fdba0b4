"""The sentences of news: what happened, and what people do about it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo

from ncen_updater.agent.model.notification_kind import NewsKind
from ncen_updater.agent.service.notifications.news import News
from ncen_updater.common.cli.render import format_minute
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.reasons import Reason, with_gaps

Explain = Callable[[str], Reason | None]

TITLES: Mapping[NewsKind, str] = {
    NewsKind.AVAILABLE: N_("Release {version} is available."),
    NewsKind.REHEARSED: N_("Release {version} was rehearsed on copies of your data, and passed."),
    NewsKind.REHEARSAL_FAILED: N_(
        "The rehearsal of release {version} failed. Nothing was changed."
    ),
    NewsKind.WAITS: N_("Release {version} waits for approval; people still needed: {missing}."),
    NewsKind.APPROVED: N_("Release {version} was approved by {by}."),
    NewsKind.BACK_APPROVED: N_("Going back to release {version} was approved by {by}."),
    NewsKind.RESTORE_AGREED: N_(
        "{by} said that the databases, as they are, belong to release {version}."
    ),
    NewsKind.EMERGENCY: N_(
        "{by} goes back from {from} to {version} without the approvals that it takes: an emergency."
    ),
    NewsKind.APPROVAL_VOID: N_("The approval of release {version} no longer holds."),
    NewsKind.SCHEDULED: N_("The upgrade to {version} may begin at {at}, as {by} chose."),
    NewsKind.SCHEDULE_CANCELLED: N_(
        "The time that was chosen for the upgrade to {version} was taken back by {by}."
    ),
    NewsKind.WINDOW: N_("The upgrade to {version} begins at {at}."),
    NewsKind.UPGRADED: N_("Upgraded from {from} to {version}. Officers can work."),
    NewsKind.FAILED: N_("The upgrade from {from} to {version} failed and was undone: {from} runs."),
    NewsKind.WENT_BACK: N_("Went back from {from} to {version}. Officers can work."),
    NewsKind.ROLLBACK_FAILED: N_("Going back from {from} to {version} was undone: {from} runs."),
    NewsKind.NEEDS_PERSON: N_("A person has to look at the agent of this site."),
    NewsKind.FEED_LAPSING: N_("The lists of the feed lapse in {days} days, at {at}."),
    NewsKind.FEED_STALE: N_("The lists of the feed have lapsed, at {at}."),
    NewsKind.WITHDRAWN: N_("Release {version}, which runs here, was withdrawn by the Secretariat."),
    NewsKind.STARTED: N_("The application ({version}) did not run, and was started."),
    NewsKind.DOWN: N_(
        "Officers cannot work: the application ({version}) does not run, or does not answer as it "
        "should, since {at} at the latest."
    ),
    NewsKind.UP: N_("Officers can work again; the application had been down since {at}."),
    NewsKind.STOPPED: N_("Somebody stopped the application while its new release was watched."),
    NewsKind.AGENT_RENEWED: N_("The agent has renewed itself: version {version} is in use."),
    NewsKind.AGENT_RETURNED: N_(
        "Version {version} of the agent did not work; the one before is used."
    ),
    NewsKind.DISK: N_("A disk of this site is getting full: {free_percent} % is free."),
}
_REMEDIES: Mapping[NewsKind, str] = {
    NewsKind.REHEARSAL_FAILED: N_(
        "Officers notice nothing. Send the Secretariat a support bundle."
    ),
    NewsKind.WAITS: N_("Read the dossier, then run: ncen-updater approve"),
    NewsKind.APPROVAL_VOID: N_(
        "Something changed since. Read the dossier again, and approve anew."
    ),
    NewsKind.FAILED: N_("It is not tried again by itself for a while. See: ncen-updater history"),
    NewsKind.RESTORE_AGREED: N_(
        "Two people have to say so. Ask why; once both have, the reasons are in: ncen-updater"
        " history"
    ),
    NewsKind.EMERGENCY: N_("Ask why; the reason that was given is in: ncen-updater history"),
    NewsKind.WENT_BACK: N_("See: ncen-updater history"),
    NewsKind.ROLLBACK_FAILED: N_("See: ncen-updater status"),
    NewsKind.NEEDS_PERSON: N_("Log in, and run: ncen-updater doctor"),
    NewsKind.FEED_LAPSING: N_(
        "Check the way to the feed; where media are used, import a new bundle."
    ),
    NewsKind.FEED_STALE: N_(
        "The application goes on. No release is taken until a new list is there."
    ),
    NewsKind.WITHDRAWN: N_("See what is advised with: ncen-updater status"),
    NewsKind.STARTED: N_(
        "Nobody had stopped it: see in the log of the system why it was not up."
    ),
    NewsKind.STOPPED: N_("The release is judged again once the application is started."),
    NewsKind.DOWN: N_(
        "No change is open here: the agent did not stop it. See: ncen-updater status"
    ),
    NewsKind.AGENT_RETURNED: N_("Nothing is to be done here. Tell the Secretariat."),
    NewsKind.DISK: N_(
        "Make room before the next upgrade; 'ncen-updater plan' says how much it needs."
    ),
}  # fmt: skip
STOP = N_("Officers were kept out for {stop}.")
STOP_PREDICTED = N_("Officers were kept out for {stop}; predicted were {low} to {high}.")
WILL_STOP = N_("Officers will be kept out for {low} to {high}.")
COUNTS = N_(
    "Records that get a new code: {mapped}; without a target: {unmapped}; checks: {checks}."
)
AGAIN = N_("An approval is for one try: each who had approved has to approve again.")
#: What stands where a value is not known.
UNKNOWN = "?"


def span(seconds: float) -> str:
    """Return a duration in figures and units that every language reads: ``4 min 10 s``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def _filled(template: str, news: News, zone: tzinfo) -> Text:
    values: dict[str, object] = dict.fromkeys(
        ("from", "version", "missing", "by", "at", "days", "free_percent"), UNKNOWN
    )
    values.update(news.values)
    moment = news.values.get("at")
    if isinstance(moment, str):
        values["at"] = format_minute(datetime.fromisoformat(moment), zone)
    return Text(template, values)


def title(news: News, zone: tzinfo) -> Text:
    """Return the one sentence that says what happened."""
    return _filled(TITLES[news.kind], news, zone)


def sentences(news: News, zone: tzinfo, explain: Explain) -> list[Text]:
    """Return everything that is said of one thing, its title first.

    Args:
        news: What happened.
        zone: Zone of the site, for times.
        explain: Says what a code means.
    """
    said = [title(news, zone), *_figures(news)]
    code = news.values.get("code")
    known = explain(code) if isinstance(code, str) else None
    if isinstance(code, str) and known is not None and not with_gaps(known[0]):
        said.append(Text(N_("Reason {code}: {what}"), {"code": code, "what": known[0]}))
    elif isinstance(code, str):
        # Half a sentence helps nobody, and what belongs into its gaps may quote the databases.
        text = N_("Reason {code}: 'ncen-updater history' on the server says it in full.")
        said.append(Text(text, {"code": code}))
    if known is not None and not with_gaps(known[1]):
        said.append(known[1])
    if news.values.get("approvals"):
        said.append(Text(AGAIN))
    if news.kind in _REMEDIES:
        said.append(_filled(_REMEDIES[news.kind], news, zone))
    return said


def _figures(news: News) -> list[Text]:
    found = []
    values = news.values
    low, high, stop = (_seconds(values.get(name)) for name in ("low_s", "high_s", "stop_s"))
    if stop is not None and low is not None and high is not None:
        found.append(Text(STOP_PREDICTED, {"stop": stop, "low": low, "high": high}))
    elif stop is not None:
        found.append(Text(STOP, {"stop": stop}))
    elif low is not None and high is not None:
        found.append(Text(WILL_STOP, {"low": low, "high": high}))
    if news.kind is NewsKind.REHEARSED:
        names = ("mapped", "unmapped", "checks")
        found.append(Text(COUNTS, {name: values.get(name, UNKNOWN) for name in names}))
    return found


def _seconds(value: object) -> str | None:
    return span(value) if isinstance(value, int | float) else None
