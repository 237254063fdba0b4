"""The site's own files in a change: which are kept, when, and what going back does to them.

The plan (which directories, kept how) is a fact of the change, written before anything is made;
what the configuration says later does not matter to a change that is open. Changes of an agent that
did not keep files have no such fact, and nothing to put back.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ncen_updater.agent.engine.last_upgrade import last_upgrade
from ncen_updater.agent.engine.site import StepContext
from ncen_updater.agent.model.change import Change, ChangeKind, Mode, StepName
from ncen_updater.agent.model.facts import ChangeFacts, KeptFiles
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.rows import reading
from ncen_updater.agent.storage.site_files.keeping import Directory, PutBack, best_method
from ncen_updater.agent.storage.site_files.listing import Method
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.progress import Progress
from ncen_updater.formats.manifest import FileEffect

#: Kinds of events. They count: names of files may tell of people.
PUT_BACK, NOT_KEPT, BROUGHT_BACK = "files-put-back", "files-not-kept", "files-brought-back"
NOT_DROPPED = "files-not-dropped"

logger = logging.getLogger(__name__)


def planned(context: StepContext) -> ChangeFacts:
    """Say which directories will be kept and how; a fact of the change. No effect."""
    paths = context.site.config.paths
    found = []
    for item in context.site.config.files:
        directory = paths.resolve(item.directory)
        try:
            method = best_method(directory, whole=item.keep == "copy")
        except OSError:
            method = Method.LINK  # making it says what is wrong
        found.append(KeptFiles(item.name, str(directory), method.value))
    return ChangeFacts(files=tuple(found) or None)


def _kept(journal: Journal, change: str) -> dict[str, Directory]:
    with reading(journal.path):
        return {
            item.name: Directory(Path(item.directory), change, Method(item.method))
            for item in journal.facts(change).files or ()
        }


def prepare(context: StepContext) -> None:
    """Make the kept trees while officers work.

    The way back is not barred by a directory that cannot be kept: that is told, and it is left out.

    Raises:
        FilesNotKept: On the way forward.
    """
    journal, change = context.journal, context.change
    for name, directory in _kept(journal, change.id).items():
        context.progress.tell(Text(N_("keeping the {name} of the site"), {"name": name}))
        try:
            directory.prepare()
        except UpdaterError as error:
            if change.kind is not ChangeKind.ROLLBACK:
                raise
            journal.note(NOT_KEPT, change.id, name=name, code=error.code, error=str(error))
            files = journal.facts(change.id).files or ()
            rest = tuple(item for item in files if item.name != name)
            journal.keep(change.id, ChangeFacts(files=rest))


@contextlib.contextmanager
def keeping(context: StepContext) -> Iterator[None]:
    """Bring the kept trees up to date, now that the application stands still, beside the block.

    Raises:
        FilesNotKept: At the end of the block, which was not in vain: the change goes back.
    """
    directories = _kept(context.journal, context.change.id).values()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="files") as beside:
        at_work = [beside.submit(directory.keep) for directory in directories]
        yield
        for work in at_work:
            work.result()


def all_kept(context: StepContext) -> bool:
    """Whether every kept tree is whole."""
    return all(item.kept() for item in _kept(context.journal, context.change.id).values())


def _touched(change: Change) -> bool:
    """Whether anything was done to files: by the new version, or by a rollback that gave names."""
    started = change.step_state(StepName.START) is not None
    return started or change.kind is ChangeKind.ROLLBACK


def owed(journal: Journal, change: Change) -> bool:
    """Whether files have to be put back if people end a change, while nobody works with them."""
    return not change.commit_written and _touched(change) and bool(_kept(journal, change.id))


def put_back(context: StepContext) -> None:
    """Put back every file as it was in the stop; what was added is set aside, and told.

    Raises:
        FilesNotPutBack: If it cannot be done now; a resume does it again.
    """
    _put_back(context.journal, context.change, context.progress)


def end_by_hand(journal: Journal, change: Change, progress: Progress, *, back: bool) -> None:
    """End by people's word what a change had begun with files; may be repeated.

    After its commit officers worked with them, so that names are only added, as by a rollback.

    Args:
        journal: Open for writing.
        change: The last upgrade, or a change that recovery gave up.
        progress: Told what is put back.
        back: Whether the site is of before the change from now on.

    Raises:
        FilesNotPutBack: If it cannot be done now.
    """
    if not change.commit_written:
        if back:
            _put_back(journal, change, progress)
        drop(journal, change.id)
        return
    for name, directory in _kept(journal, change.id).items() if back else ():
        _bring_back(journal, change, progress, name, directory, directory, everything=True)


def _put_back(journal: Journal, change: Change, progress: Progress) -> None:
    if not _touched(change):
        return
    started = change.step_state(StepName.START) is not None
    for name, directory in _kept(journal, change.id).items():
        found = directory.put_back(required=started)
        if found == PutBack():
            continue
        journal.note(
            PUT_BACK, change.id, name=name, restored=found.restored, aside=found.aside,
            written=len(found.written), lost=len(found.lost), place=str(directory.place),
        )  # fmt: skip
        values = {
            "name": name, "restored": found.restored, "aside": found.aside,
            "written": len(found.written), "place": directory.place,
        }  # fmt: skip
        progress.tell(Text(N_("{name}: {restored} are where they were again"), values))
        if found.aside:
            words = N_("{name}: {aside} that were added lie aside in {place}")
            progress.tell(Text(words, values))
        if found.written:
            words = N_("{name}: {written} were written in place, which cannot be undone")
            progress.tell(Text(words, values))


def all_there(context: StepContext) -> bool:
    """Whether nothing is missing of what was there before the change."""
    kept = _kept(context.journal, context.change.id) if _touched(context.change) else {}
    return not any(item.missing() for item in kept.values())


def discard(context: StepContext) -> None:
    """Remove the kept trees of a change that was undone."""
    for directory in _kept(context.journal, context.change.id).values():
        directory.discard()


def bring_back(context: StepContext) -> None:
    """On a rollback after the commit: give files of before the upgrade their old names again.

    Files are added and never removed. Those that the newer release moved get their old names beside
    the new ones. Those that are gone may have been deleted by officers, and come back only where
    the databases go back too, or where the release said that it moves or rewrites files. What
    cannot be given back does not bar the way back; it is told.
    """
    change, journal = context.change, context.journal
    if change.kind is not ChangeKind.ROLLBACK:
        return
    upgrade = last_upgrade(journal.changes(), context.origin_version)
    before = _kept(journal, upgrade.id) if upgrade is not None else {}
    declared = {item.name: item.effect for item in context.newer().manifest.files}
    for name, directory in _kept(journal, change.id).items():
        earlier = before.get(name)
        if earlier is None or earlier.directory != directory.directory:
            continue
        strong = declared.get(name) in (FileEffect.MOVES, FileEffect.REWRITES)
        everything = strong or change.mode is Mode.RESTORE
        _bring_back(
            journal, change, context.progress, name, directory, earlier, everything=everything
        )


def _bring_back(
    journal: Journal,
    change: Change,
    progress: Progress,
    name: str,
    directory: Directory,
    earlier: Directory,
    *,
    everything: bool,
) -> None:
    try:
        given, gone = directory.bring_back(earlier, everything=everything)
    except UpdaterError as error:
        journal.note(NOT_KEPT, change.id, name=name, code=error.code, error=str(error))
        progress.tell(error.what_text)
        return
    if given or gone:
        journal.note(
            BROUGHT_BACK, change.id, name=name, given=given, gone=gone, place=str(earlier.place)
        )
        words = N_("{name}: {given} got their old names again, {gone} of before are gone")
        progress.tell(Text(words, {"name": name, "given": given, "gone": gone}))


def drop(journal: Journal, change: str) -> None:
    """Remove the kept trees of a change that was committed, once its days are over.

    One that cannot be removed takes room and nothing else: it bars neither the end of a change nor
    the databases that go with it. It is told, and tried again by the next collection.
    """
    for name, directory in _kept(journal, change).items():
        try:
            directory.discard()
        except UpdaterError as error:
            logger.warning("the kept %s of %s cannot be removed: %s", name, change, error)
            journal.note(NOT_DROPPED, change, name=name, code=error.code, error=str(error))


def still_kept(journal: Journal, changes: Iterable[str]) -> set[str]:
    """Of these changes those of which a kept tree, or a part of one, is there. Reads only."""
    return {
        change
        for change in changes
        if any(_is_there(directory) for directory in _kept(journal, change).values())
    }


def _is_there(directory: Directory) -> bool:
    """Whether anything is left; a way that leads elsewhere by now leads to nothing of ours."""
    try:
        return directory.there()
    except (OSError, UpdaterError):
        return False
