"""What could go wrong, in plain words. Pure."""

from __future__ import annotations

from ncen_updater.agent.databases.ways import Back
from ncen_updater.agent.dossier.gather import Dossier
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text


def risks(dossier: Dossier) -> tuple[Text, ...]:
    """Say what could go wrong, the gravest first; empty where nothing particular is known."""
    found: list[Text] = []
    if any(finding.severity is Severity.STRICT for finding in dossier.findings):
        found.append(Text(N_("Something blocks the upgrade now; see the checks below.")))
    loses = [name for hop in dossier.hops for name in hop.loses]
    if loses:
        words = N_(
            "After officers are back, going back loses what they enter in {objects}. It is counted"
            " and asked for first."
        )
        found.append(Text(words, {"objects": ", ".join(loses)}))
    if any(hop.way_back is not Back.KEEPS for hop in dossier.hops):
        words = N_(
            "After officers are back, going back loses what they entered since: this release has"
            " no way down that keeps it. The loss is counted and asked for first."
        )
        found.append(Text(words))
    if dossier.rehearsed_at is None:
        words = N_("It was not rehearsed: how long it takes and what it changes is not known.")
        found.append(Text(words))
    unmapped = sum(hop.unmapped for hop in dossier.hops)
    if unmapped:
        words = N_(
            "{count} records have a code without a target in the new release. See in the notes"
            " what becomes of them, or ask the Secretariat."
        )
        found.append(Text(words, {"count": unmapped}))
    differs = [name for hop in dossier.hops if hop.report for name in hop.report.back_differs]
    if differs:
        words = N_("After the way back these tables were not as before: {tables}.")
        found.append(Text(words, {"tables": ", ".join(differs)}))
    if any(hop.report and not hop.report.stop_s.learnt for hop in dossier.hops):
        words = N_(
            "Few upgrades were made here so far: how long the application takes to stop and start"
            " is partly a guess, and the range is wide."
        )
        found.append(Text(words))
    missed = [item for item in dossier.earlier if not item.low_s <= item.real_s <= item.high_s]
    if missed:
        words = N_("Of the last {count} predictions for this site {missed} did not hold.")
        found.append(Text(words, {"count": len(dossier.earlier), "missed": len(missed)}))
    if len(dossier.hops) > 1:
        words = N_(
            "It goes over {count} releases, one after the other. If a later one fails, the site"
            " stays at the one before it."
        )
        found.append(Text(words, {"count": len(dossier.hops)}))
    return tuple(found)
