"""What a release adds to the live databases before the stop, while the one before goes on working.

Both releases say under the officers' signatures that the older one runs on what comes of it, also
on a part of it, and that the program may be repeated. So nothing here has to be undone: a failure
or a kill at any instant leaves databases that the release in use works with. What has to be true
afterwards is the journal, since a changed schema bars rehearsals: see :func:`note_what_stays`.

It is the end of the step *preflight* and no step of its own: an agent of before, which may be
brought back at any time, reads no journal with a step that it does not know.
"""

from __future__ import annotations

from ncen_updater.agent.databases.base import Live
from ncen_updater.agent.databases.errors import DatabaseUnreachable
from ncen_updater.agent.engine.fingerprints import schema_findings, schemas_of
from ncen_updater.agent.engine.situation import EXPANDED, known
from ncen_updater.agent.journal.facts import ChangeFacts
from ncen_updater.agent.journal.wordings import Wordings
from ncen_updater.agent.site import StepContext
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import EXPAND_FAILED

__all__ = ["EXPANDING", "expand", "note_what_stays"]

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
        site.engine.expand(site.migrations(context.target_version), context.progress)
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
    found = schemas_of(context.site.engine, Live)
    if known(context.journal).fingerprints != found.fingerprints:
        context.journal.note(
            EXPANDED,
            context.change.id,
            fingerprints=dict(found.fingerprints),
            schema_kinds={name: dict(kinds) for name, kinds in found.kinds.items()},
        )
