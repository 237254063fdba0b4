"""``translations``: what the country has in texts of its own, and what is to be done to them."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from packaging.version import Version

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    NOT_PREPARED,
    NOTHING_CARRIED,
    OVERLAY_FILE_UNUSABLE,
    OVERLAY_NOT_SET,
    OVERLAY_WHICH_FILE,
    SLOT_MISSING,
    ExitCode,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.agent.storage.overlay.layer import FileReport, Layer, LayerReport
    from ncen_updater.agent.storage.overlay.merge import MadeFor


@click.command(
    "translations",
    cls=Command,
    help=N_("What the country has in texts of its own, and what is to be done."),
)
@click.argument(
    "action",
    type=click.Choice(["report", "export", "import", "apply"]),
    default="report",
)
@click.argument("name", required=False)
@click.option(
    "--for",
    "version",
    metavar="VERSION",
    help=N_("The release to translate for; it must be here. The one that runs by default."),
)
@click.option(
    "--language", "spoken", metavar="NAME", help=N_("Import: which language the file is in.")
)
@click.option("--to", "target", metavar="FILE", help=N_("Export: the file to write."))
@click.option("--file", "of", metavar="FILE", help=N_("Which file, where there are several."))
@click.option("--all", "everything", is_flag=True, help=N_("Export: also what needs nothing."))
@click.option("--csv", "table", metavar="FILE", help=N_("Report: every key, as a table."))
@click.option("--yes", is_flag=True, help=N_("Import: do not ask."))
@click.pass_context
def translations(
    context: click.Context,
    action: str,
    name: str | None,
    version: str | None,
    spoken: str | None,
    target: str | None,
    of: str | None,
    everything: bool,
    table: str | None,
    yes: bool,
) -> ExitCode:
    session = agent_session(context)
    if action in ("export", "import") and name is None:
        words = N_("name a file") if action == "import" else N_("name a language")
        raise Misuse(words, context, hint=action)
    site = session.open_site()
    layer = site.overlay
    if layer is None:
        raise UpdaterError(OVERLAY_NOT_SET, state=NOTHING_CHANGED)
    current = site.slots.current()
    chosen = parse_version(version) or current
    if version and chosen is not None and chosen not in site.slots.versions():
        raise UpdaterError(NOT_PREPARED, version=chosen, state=NOTHING_CHANGED)
    if chosen is None or current is None or chosen not in site.slots.versions():
        raise UpdaterError(
            SLOT_MISSING, version=chosen or "-", slots=site.slots.directory, state=NOTHING_CHANGED
        )
    origin = current if chosen != current else None
    match action:
        case "report":
            return _report(session, layer, origin, chosen, table)
        case "export":
            place = Path(target) if target else Path(f"{name}.po")
            return _export(
                session, layer, origin, chosen, name or "", place, of, everything=everything
            )
        case "import":
            return _import(session, site, layer, chosen, Path(name or ""), spoken, of, yes=yes)
        case _:
            return _apply(session, site, layer, current)


# ---- report --------------------------------------------------------------------------------------


def _report(
    session: AgentSession,
    layer: Layer,
    origin: Version | None,
    version: Version,
    table: str | None,
) -> ExitCode:
    from ncen_updater.agent.storage.overlay.words import (
        layer_json,
        listed,
        outcome_words,
        sentences,
    )

    report = layer.report(origin, version)
    if table is not None:
        _write(Path(table), _table(session, report).encode())
    for words in sentences(report):
        session.show(words)
    found = listed(report)
    if found:
        session.show("")
        session.show(Text(N_("To look at:")))
    for file, told in found:
        values = {
            "path": file.own,
            "key": clean(told.name),
            "words": outcome_words(told),
        }
        session.show(Text(N_("  {path}: {key}: {words}"), values))
    if not report.files:
        session.show(Text(N_("{version} carries no texts or settings."), {"version": version}))
    session.finish({"version": str(version), "files": layer_json(report)})
    return ExitCode.BLOCKED if report.blocking else ExitCode.OK


def _table(session: AgentSession, report: LayerReport) -> str:
    from ncen_updater.agent.storage.overlay.words import outcome_words

    made = io.StringIO()
    rows = csv.writer(made)
    rows.writerow(["file", "language", "key", "outcome", "words", "own", "release", "made for"])
    for file in report.files:
        for told in file.told:
            texts = (" | ".join(forms) for forms in (told.own, told.theirs, told.before))
            words = outcome_words(told).render(session.language)
            rows.writerow(
                [file.own, file.language or "", told.name, told.outcome.value, words, *texts]
            )
    return made.getvalue()


def _write(path: Path, content: bytes) -> None:
    from ncen_updater.common import atomic_files as durable

    try:
        durable.write(path, content)
    except OSError as error:
        raise UpdaterError(
            OVERLAY_FILE_UNUSABLE, path=path, why=error.strerror or error, state=NOTHING_CHANGED
        ) from error


# ---- export and import ---------------------------------------------------------------------------


def _chosen(layer: Layer, version: Version, language: str, of: str | None) -> FileReport:
    """The one file of a language; with several, the one that was named."""
    files = layer.new_language(version, language)
    if of is not None:
        files = tuple(file for file in files if of in (file.own, file.path))
    if len(files) > 1:
        raise UpdaterError(
            OVERLAY_WHICH_FILE,
            language=language,
            files=", ".join(file.own for file in files),
            state=NOTHING_CHANGED,
        )
    if not files:
        raise UpdaterError(
            NOTHING_CARRIED, version=version, language=language, state=NOTHING_CHANGED
        )
    return files[0]


def _export(
    session: AgentSession,
    layer: Layer,
    origin: Version | None,
    version: Version,
    language: str,
    place: Path,
    of: str | None,
    *,
    everything: bool,
) -> ExitCode:
    from ncen_updater.agent.storage.overlay.exchange import to_do
    from ncen_updater.formats.manifest import CarriedFormat
    from ncen_updater.formats.texts.catalogue import Unusable
    from ncen_updater.formats.texts.readers import FORMATS

    file = _chosen(layer, version, language, of)
    told = {item.own: item for item in layer.report(origin, version).files}
    try:
        theirs = layer.sources(file.declared, version, language)
        own = layer.own_catalogue(file.declared, language)
    except Unusable as error:
        raise _unusable(file.own, error) from error
    found = to_do(told.get(file.own, file), theirs, own, everything=everything)
    _write(place, FORMATS[CarriedFormat.PO].write(found).encode())
    values = {"path": place, "count": len(found), "version": version}
    session.show(Text(N_("Written: {path}, {count} texts to look at for {version}"), values))
    session.finish({"path": str(place), "count": len(found), "version": str(version)})
    return ExitCode.OK


def _unusable(path: object, error: Exception) -> UpdaterError:
    from ncen_updater.formats.texts.catalogue import Unusable

    line = error.line if isinstance(error, Unusable) else None
    place = path if line is None else f"{path}:{line}"
    return UpdaterError(OVERLAY_FILE_UNUSABLE, path=place, why=error, state=NOTHING_CHANGED)


def _import(
    session: AgentSession,
    site: Site,
    layer: Layer,
    version: Version,
    path: Path,
    language: str | None,
    of: str | None,
    *,
    yes: bool,
) -> ExitCode:
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.storage.overlay.exchange import take
    from ncen_updater.agent.storage.overlay.own_files import Found, parsed
    from ncen_updater.common.bounded_io import read_file
    from ncen_updater.formats.manifest import CarriedFormat
    from ncen_updater.formats.texts.catalogue import Unusable

    spoken = language or path.stem
    file = _chosen(layer, version, spoken, of)
    declared = file.declared
    as_po = path.suffix == ".po" or declared.format is CarriedFormat.PO
    form = declared.model_copy(update={"format": CarriedFormat.PO, "encoding": "utf-8"})
    try:
        content = read_file(path, 20_000_000)
        came = parsed(Found(content, 0o644, -1, -1), form if as_po else declared)
        own = layer.own_catalogue(declared, spoken)
        order = (version, *(v for v in reversed(site.slots.versions()) if v != version))
        releases = []
        for at in order:
            with contextlib.suppress(Unusable):
                releases.append(layer.sources(declared, at, spoken))
        is_po = declared.format is CarriedFormat.PO
        taken = take(came, own, releases, is_po=is_po, as_po=as_po)
    except Unusable as error:
        raise _unusable(path, error) from error
    except OSError as error:
        raise UpdaterError(
            OVERLAY_FILE_UNUSABLE, path=path, why=error.strerror or error, state=NOTHING_CHANGED
        ) from error
    values: dict[str, object] = {
        "language": spoken, "added": len(taken.added), "changed": len(taken.changed),
        "unknown": len(taken.unknown),
    }  # fmt: skip
    session.show(
        Text(N_("{language}: {added} texts are new, {changed} say something else"), values)
    )
    if taken.unknown:
        words = N_("left out, since no release that is here has their text: {unknown}")
        session.show(Text(words, values))
    if taken.added or taken.changed:
        session.agree(Text(N_("Take them into the country's own texts?")), yes=yes)
        with (
            session.progress() as progress,
            Operations(site, progress).between_changes("translations") as journal,
        ):
            layer.write_own(declared, spoken, taken.own)
            _merge_again(layer, site, journal, {file.path: taken.made_for}, language=spoken)
        session.show(Text(N_("Taken; nCEN shows them after its next start.")))
        _show_refused(session, layer, version, file.own)
    session.finish(
        {
            "language": spoken,
            "added": len(taken.added),
            "changed": len(taken.changed),
            "unknown": list(taken.unknown),
        }
    )
    return ExitCode.OK


def _show_refused(session: AgentSession, layer: Layer, version: Version, own: str) -> None:
    """Say how many of a file's texts are not used: what is taken is not all shown."""
    from ncen_updater.agent.storage.overlay.merge import KeyOutcome

    report = layer.report(None, version)
    count = sum(len(f.of(KeyOutcome.REFUSED)) for f in report.files if f.own == own)
    if count:
        session.show(Text(N_("{count} wordings of yours cannot be used"), {"count": count}))
        session.show(Text(N_("'ncen-updater translations report' says of each why.")))


# ---- apply ---------------------------------------------------------------------------------------


def _apply(session: AgentSession, site: Site, layer: Layer, current: Version) -> ExitCode:
    from ncen_updater.agent.engine.operations import Operations

    with (
        session.progress() as progress,
        Operations(site, progress).between_changes("translations") as journal,
    ):
        name, changed = _merge_again(layer, site, journal)
    values = {"path": layer.merged / name, "version": current}
    if changed:
        session.show(
            Text(N_("Merged for {version}: {path}. nCEN shows it after its next start."), values)
        )
    else:
        session.show(Text(N_("Nothing has changed since {path} was merged."), values))
    session.finish({"version": str(current), "merged": name, "changed": changed})
    return ExitCode.OK


def _merge_again(
    layer: Layer,
    site: Site,
    journal: Journal,
    made_for: Mapping[str, MadeFor] | None = None,
    **told: object,
) -> tuple[str, bool]:
    """Merge for the release that runs, use it, and note it where something changed.

    Args:
        layer: What the country owns.
        site: The site.
        journal: Open, between two changes.
        made_for: What texts that just came were made for, by the path of their file.
        told: What else the note tells.

    Returns:
        What is in use, and whether it changed.
    """
    running, before = site.slots.current(), layer.chosen()
    assert running is not None  # noqa: S101 - commands look at it before
    name = layer.build(None, running, made_for)
    if name != before:
        layer.choose(name)
    if name != before or told:
        journal.note("translations-applied", None, version=str(running), merged=name, **told)
    return name, name != before
