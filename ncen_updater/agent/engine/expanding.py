"""What a release adds to the live databases before the stop, while the one before goes on working.

Both releases say under the officers' signatures that the older one runs on what comes of it, also
on a part of it, and that the program may be repeated. So nothing here has to be undone: a failure
or a kill at any instant leaves databases that the release in use works with. What has to be true
afterwards is the journal, since a changed schema bars rehearsals: see :func:`note_what_stays`.

It is the end of the step *preflight* and no step of its own: an agent of before, which may be
brought back at any time, reads no journal with a step that it does not know.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ncen_updater.agent.databases.base import Live
from ncen_updater.agent.databases.errors import DatabaseUnreachable
from ncen_updater.agent.engine.fingerprints import schema_findings, schemas_of
from ncen_updater.agent.engine.situation import EXPANDED, known
from ncen_updater.agent.journal.facts import ChangeFacts
from ncen_updater.agent.journal.wordings import Wordings
from ncen_updater.agent.site import Site, StepContext
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import EXPAND_FAILED, EXPAND_UNDER_WAY
from ncen_updater.common.supervised import taken

__all__ = ["EXPANDING", "expand", "note_what_stays"]

#: Whose program works on live databases, in the state directory.
EXPAND_LOCK = "expand.lock"
#: What an agent that was killed left at work is ended by its supervisor, at once.
LIMIT_S, LOOK_S = 30.0, 0.05

EXPANDING = Text(N_("migrating the databases while officers work"))


def expand(context: StepContext) -> None:
    """Run the release's program on the live databases.

    Raises:
        ExpandFailed: It failed. That is no verdict on the release: it may have waited in vain for
            what an officer held.
        DatabaseUnreachable: The server is gone.
    """
    site = context.site
    context.progress.tell(EXPANDING)
    journal = context.journal
    running = context.origin().manifest
    found = schema_findings(site.engine, known(journal), Wordings.of(journal), running)
    others = any(finding.severity is Severity.STRICT for finding in found)
    journal.keep(context.change.id, ChangeFacts(expanded=not others))
    try:
        with _alone(site) as kept:
            target = site.migrations(context.target_version)
            site.engine.expand(target, context.progress, kept=kept)
    except DatabaseUnreachable:
        raise
    except UpdaterError as error:
        raise UpdaterError(
            EXPAND_FAILED,
            version=context.change.to_version,
            current=context.change.from_version,
            cause=error.what_text,
            cause_remedy=error.remedy_text,
            detail=error.detail,
        ).privately(error.private) from error


def note_what_stays(context: StepContext) -> None:
    """Write down what the schemas are, now that the change was undone; again after a crash.

    Not where the program was never begun, nor where the schema was another one before: then it is
    somebody else's, too.
    """
    if not context.facts().expanded:
        return
    with _alone(context.site):
        found = schemas_of(context.site.engine, Live)
    if known(context.journal).fingerprints != found.fingerprints:
        context.journal.note(
            EXPANDED,
            context.change.id,
            fingerprints=dict(found.fingerprints),
            schema_kinds={name: dict(kinds) for name, kinds in found.kinds.items()},
        )


@contextlib.contextmanager
def _alone(site: Site) -> Iterator[int]:
    """Hold what the supervisor of a program holds as long as that runs, also when its agent ended.

    Raises:
        ExpandUnderWay: It does not come to its end.
    """
    path = site.state / EXPAND_LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        deadline = site.clock.monotonic() + LIMIT_S
        while not taken(descriptor):
            if site.clock.monotonic() >= deadline:
                raise UpdaterError(EXPAND_UNDER_WAY, seconds=f"{LIMIT_S:g}")
            site.clock.wait(LOOK_S)
        yield descriptor
    finally:
        os.close(descriptor)
