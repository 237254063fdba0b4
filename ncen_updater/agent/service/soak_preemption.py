"""End of a soak period by a requested rollback.

A soak period holds the change lock. A requested rollback does not wait for its end: the request is
recorded, the soak period is ended, and the rollback continues the change under the lock, as after
an interruption. After a crash in between, the release is still in its soak period or the job is
still queued; the next service runs the job first. Imported by ``status``.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ncen_updater.agent.engine.pending_rollback import find_rollback_job
from ncen_updater.agent.reports.status import read_mtime_ns
from ncen_updater.agent.storage.journal.jobs import Job
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import INTERRUPTED, SOAK_ENDED_BY_ROLLBACK

logger = logging.getLogger(__name__)

#: How often the journal is checked for a rollback job.
POLL_INTERVAL_S = 1.0
#: Event: the soak period ended because a user requested a rollback.
SOAK_ENDED = "soak-ended"


@contextmanager
def preempt_soak_for_rollback(path: Path) -> Iterator[None]:
    """End this process's soak period, no matter who started it, once a rollback is requested.

    Call it within :meth:`.SignalHandler.handle_signals`, since it sends SIGTERM to this process.

    Args:
        path: The journal.

    Raises:
        SOAK_ENDED_BY_ROLLBACK: Instead of the interruption by that signal.
    """
    stopping, jobs = threading.Event(), list[Job]()

    def poll_journal() -> None:
        seen_mtime = -1
        while not stopping.wait(POLL_INTERVAL_S):
            mtime = read_mtime_ns(path)
            if mtime == seen_mtime:
                continue
            try:
                job = _record_soak_end(path)
            except UpdaterError as error:
                # The soak period continues; the next check may succeed.
                logger.warning("cannot determine whether a rollback was requested: %s", error)
                continue
            seen_mtime = mtime
            if job is not None:
                jobs.append(job)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=poll_journal, name="jobs", daemon=True)
    thread.start()
    try:
        yield
    except UpdaterError as error:
        if jobs and error.code == INTERRUPTED.code:
            job = jobs[0]
            raise UpdaterError(SOAK_ENDED_BY_ROLLBACK, job=job.id, who=job.actor.name) from error
        raise
    finally:
        stopping.set()
        thread.join()


def _record_soak_end(path: Path) -> Job | None:
    """Record the end of the soak period and its job; return None without a rollback job."""
    with Journal.open(path, read_only=True) as journal:
        job, change = find_rollback_job(journal), journal.find_open_change()
    if job is None or change is None:
        return None
    with Journal.open(path) as journal:
        journal.record_event(SOAK_ENDED, change.id, job=job.id, by=job.actor.name)
    logger.info("the soak period ends: %s requested the rollback", job.actor.name)
    return job
