"""Dossiers that are kept at the site: one in each language for what was rehearsed or approved."""

from __future__ import annotations

import logging
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.engine.approvals import upgrade_approvals as approving
from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.dossier.gather import collect_dossier
from ncen_updater.agent.reports.dossier.page import compute_approvals_digest, render_dossier
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import list_languages
from ncen_updater.common.progress import SilentProgress

logger = logging.getLogger(__name__)

#: Below the state directory; a page is named by its binding and its language.
DOSSIERS_DIRECTORY = "dossiers"
#: Within so many bytes of a page its head says which approvals it shows.
HEAD_BYTES = 4096


def write_dossiers(site: Site, journal: Journal, target: str) -> tuple[Path, ...]:
    """Write the pages on a release again; those that nobody approved and nobody can, go.

    A page can be made again at any time, so that a rehearsal or an approval does not fail for it.

    Args:
        site: The site.
        journal: Its journal.
        target: The release.

    Returns:
        The pages; none where they could not be written, which is logged.
    """
    try:
        return _write_pages(site, journal, target)
    except (UpdaterError, OSError) as error:
        logger.warning("the dossier on %s was not written: %s", target, error)
        return ()


def refresh_dossiers(site: Site, target: str | None, binding: str) -> None:
    """Write the pages again where people approved, or chose a time, since they were written.

    Requests only write down what people said; the pages follow when the service looks next.
    """
    if target is None or not binding:
        return
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        consent = ApprovalStore(journal)
        chosen = consent.find_schedule(binding)
        now = compute_approvals_digest(
            consent.list_for_binding(binding), chosen.not_before if chosen else None
        )
        path = site.state_directory / DOSSIERS_DIRECTORY / f"{binding}.{list_languages()[0]}.html"
        try:
            with path.open("rb") as page_of_it:
                shown = now.encode() in page_of_it.read(HEAD_BYTES)
        except OSError:
            shown = False
        if not shown:
            write_dossiers(site, journal, target)


def _write_pages(site: Site, journal: Journal, target: str) -> tuple[Path, ...]:
    # One that failed here may be tried again, and approved for that.
    found = approving.find_upgrade_to_approve(
        site, journal, SilentProgress(), Version(target), retry=True
    )
    facts = collect_dossier(site, journal, found)
    directory = site.state_directory / DOSSIERS_DIRECTORY
    durable.make_directory(directory, 0o750)
    retained = []
    for language in list_languages():
        path = directory / f"{found.binding}.{language}.html"
        durable.write_file(path, render_dossier(facts, language), 0o640)
        retained.append(path)
    consent = ApprovalStore(journal)
    for old in directory.glob("*.*.html"):
        binding = old.name.partition(".")[0]
        if old not in retained and not (
            consent.list_for_binding(binding) or consent.was_consumed(binding)
        ):
            durable.remove_file(old)
    return tuple(retained)
