"""The planner's statistics after a change: while users work, and never its failure."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from ncen_updater.agent.engine.site import Site
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.progress import ProgressListener

logger = logging.getLogger(__name__)

#: What is not analyzed by then is left to the server's own upkeep.
STATISTICS_LIMIT_S = 600.0


class StatisticsRefresh:
    """What is being done.

    Args:
        site: Its databases.
        progress: Told that it begins.
        limit_s: How long it may take.
        watching: What is said where they are brought up to date while the release is watched, which
            goes on afterwards.
    """

    def __init__(
        self,
        site: Site,
        progress: ProgressListener,
        limit_s: float = STATISTICS_LIMIT_S,
        watching: LazyText | None = None,
    ) -> None:
        self._site, self._progress, self._limit_s = site, progress, limit_s
        self._watching = watching
        self._found: dict[str, object] = {}

    def run(self) -> None:
        """Bring them up to date; whatever stands in the way is only told."""
        clock = self._site.clock.monotonic
        begin = clock()
        alone = N_("updating database statistics")
        beside = N_("soak period, updating database statistics")
        self._progress.report(LazyText(alone if self._watching is None else beside))
        try:
            done = self._site.database_engine.refresh_statistics(self._limit_s)
        except UpdaterError as error:
            logger.warning("statistics: %s", error)
            self._found["failed"] = error.code
        else:
            self._found["tables"] = {name: list(tables) for name, tables in done.items()}
        self._found["seconds"] = round(clock() - begin, 3)
        if self._watching is not None:
            self._progress.report(self._watching)

    @property
    def result(self) -> dict[str, object]:
        """For the journal: the tables, or the code of what stood in the way; and the seconds."""
        return dict(self._found)


@contextlib.contextmanager
def refresh_in_background(
    site: Site, progress: ProgressListener, title: LazyText
) -> Iterator[StatisticsRefresh]:
    """Bring them up to date beside a block that watches; where that fails, it is ended."""
    beside = StatisticsRefresh(site, progress, watching=title)
    thread = threading.Thread(target=beside.run, name="statistics", daemon=True)
    thread.start()
    try:
        yield beside
        thread.join()
    except BaseException:
        while thread.is_alive():
            site.database_engine.cancel_sessions()
            thread.join(0.1)
        raise
