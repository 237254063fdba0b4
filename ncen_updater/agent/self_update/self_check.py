"""Self-check of an agent on trial: it reaches everything that it works with.

Reads the journal, the last list of releases and the catalogue of every database, and checks the
free disk space; changes nothing and uses no network.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.disk_space import require_space

logger = logging.getLogger(__name__)


def check_site(site: Site) -> None:
    """Look at journal, list, databases and room.

    Raises:
        UpdaterError: If one of them cannot be read, or a disk of the agent is full.
    """
    paths = site.config.paths
    for place in (site.state_directory, paths.resolve(paths.agent_slots)):
        if place.is_dir():
            # No more than is always kept free: an agent that fills the disk must not confirm itself
            # with the last block.
            require_space(place, 0)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
        journal.list_changes()
        journal.find_open_change()
        SiteHistory(journal).list_bad_releases()
    site.release_source.load_last_view()
    site.slots.read_current()
    site.database_engine.describe_databases()


def run_self_check(path: Path) -> dict[str, object]:
    """Look at the site of a configuration file.

    Raises:
        UpdaterError: As :func:`check_site`.
    """
    check_site(build_site(load_config(path), path))
    return {}
