"""``translations``: local texts of the country: report, export, import, apply."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from packaging.version import Version

from ncen_updater.agent.cli.common import agent_command, yes_option
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.usage import NOTHING_CHANGED, CommandUsageError, parse_version
from ncen_updater.common.errors import UpdaterError, get_error_text
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    NOT_PREPARED,
    OVERLAY_FILE_AMBIGUOUS,
    OVERLAY_FILE_UNUSABLE,
    OVERLAY_LANGUAGE_UNKNOWN,
    OVERLAY_NOT_SET,
    SLOT_MISSING,
    ExitCode,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.agent.storage.overlay.layer import FileReport, LocalOverlay
    from ncen_updater.agent.storage.overlay.three_way_merge import TextOrigins


@agent_command
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
    help=N_("Release to translate (default: installed release)"),
)
@click.option(
    "--language", "file_language", metavar="NAME", help=N_("import: language of the file")
)
@click.option("--to", "target", metavar="FILE", help=N_("export: output file"))
@click.option("--file", "file_name", metavar="FILE", help=N_("File to use if there are several"))
@yes_option
def translations(
    session: AgentSession,
    action: str,
    name: str | None,
    version: str | None,
    file_language: str | None,
    target: str | None,
    file_name: str | None,
    yes: bool,
) -> ExitCode:
    if action in ("export", "import") and name is None:
        words = N_("specify a file") if action == "import" else N_("specify a language")
        raise CommandUsageError(words, hint=action)
    site = session.open_site()
    layer = site.overlay
    if layer is None:
        raise UpdaterError(OVERLAY_NOT_SET, state=NOTHING_CHANGED)
    current = site.slots.read_current()
    chosen = parse_version(version) or current
    if version and chosen is not None and chosen not in site.slots.list_versions():
        raise UpdaterError(NOT_PREPARED, version=chosen, state=NOTHING_CHANGED)
    if chosen is None or current is None or chosen not in site.slots.list_versions():
        raise UpdaterError(
            SLOT_MISSING,
            version=chosen or "-",
            slots=site.slots.slots_directory,
            state=NOTHING_CHANGED,
        )
    origin = current if chosen != current else None
    match action:
        case "report":
            return _show_report(session, layer, origin, chosen)
        case "export":
            output = Path(target) if target else Path(f"{name}.po")
            return _export_texts(session, layer, origin, chosen, name or "", output, file_name)
        case "import":
            return _import_texts(
                session, site, layer, chosen, Path(name or ""), file_language, file_name, yes=yes
            )
        case _:
            return _apply_overlay(session, site, layer, current)


# ---- report --------------------------------------------------------------------------------------


def _show_report(
    session: AgentSession, layer: LocalOverlay, origin: Version | None, version: Version
) -> ExitCode:
    from ncen_updater.agent.storage.overlay.report_text import (
        describe_key,
        describe_overlay,
        list_keys_to_review,
        serialize_overlay,
    )

    report = layer.make_report(origin, version)
    for words in describe_overlay(report):
        session.add_line(words)
    found = list_keys_to_review(report)
    if found:
        session.add_line("")
        session.add_line(LazyText(N_("To review:")))
    for file, reported in found:
        values = {
            "path": file.local_path,
            "key": strip_control_characters(reported.name),
            "problem": describe_key(reported),
        }
        line = LazyText(N_("{path}: {key}: {problem}"), values)
        session.add_line(LazyText("  {line}", {"line": line}))
    if not report.files:
        session.add_line(LazyText(N_("No texts or settings in {version}."), {"version": version}))
    session.write_output({"version": str(version), "files": serialize_overlay(report)})
    return ExitCode.BLOCKED if report.blocking_files else ExitCode.OK


def _write_file(path: Path, content: bytes) -> None:
    from ncen_updater.common import atomic_files as durable

    try:
        durable.write_file(path, content)
    except OSError as error:
        raise UpdaterError(
            OVERLAY_FILE_UNUSABLE, path=path, why=error.strerror or error, state=NOTHING_CHANGED
        ) from error


# ---- export and import ---------------------------------------------------------------------------


def _choose_file(
    layer: LocalOverlay, version: Version, language: str, file_name: str | None
) -> FileReport:
    """Return the file of a language; if there are several, the requested one."""
    files = layer.plan_new_language(version, language)
    if file_name is not None:
        files = tuple(file for file in files if file_name in (file.local_path, file.path))
    if len(files) > 1:
        raise UpdaterError(
            OVERLAY_FILE_AMBIGUOUS,
            language=language,
            files=", ".join(file.local_path for file in files),
            state=NOTHING_CHANGED,
        )
    if not files:
        raise UpdaterError(
            OVERLAY_LANGUAGE_UNKNOWN, version=version, language=language, state=NOTHING_CHANGED
        )
    return files[0]


def _export_texts(
    session: AgentSession,
    layer: LocalOverlay,
    origin: Version | None,
    version: Version,
    language: str,
    path: Path,
    file_name: str | None,
) -> ExitCode:
    from ncen_updater.agent.storage.overlay.translation_exchange import export_untranslated
    from ncen_updater.formats.manifest import OverlayFormat
    from ncen_updater.formats.texts.catalog import UnusableFileError
    from ncen_updater.formats.texts.file_formats import FORMATS

    file = _choose_file(layer, version, language, file_name)
    reported = {item.local_path: item for item in layer.make_report(origin, version).files}
    try:
        shipped = layer.read_shipped(file.declared, version, language)
        own = layer.read_local(file.declared, language)
    except UnusableFileError as error:
        raise _build_unusable_error(file.local_path, error) from error
    found = export_untranslated(reported.get(file.local_path, file), shipped, own)
    _write_file(path, FORMATS[OverlayFormat.PO].write(found).encode())
    values = {"path": path, "count": len(found), "version": version}
    session.add_line(
        LazyText(N_("Written: {path} ({count} texts to review for {version})"), values)
    )
    session.write_output({"path": str(path), "count": len(found), "version": str(version)})
    return ExitCode.OK


def _build_unusable_error(path: object, error: Exception) -> UpdaterError:
    from ncen_updater.formats.texts.catalog import UnusableFileError

    line = error.line if isinstance(error, UnusableFileError) else None
    location = path if line is None else f"{path}:{line}"
    return UpdaterError(
        OVERLAY_FILE_UNUSABLE, path=location, why=get_error_text(error), state=NOTHING_CHANGED
    )


def _import_texts(
    session: AgentSession,
    site: Site,
    layer: LocalOverlay,
    version: Version,
    path: Path,
    file_language: str | None,
    file_name: str | None,
    *,
    yes: bool,
) -> ExitCode:
    from ncen_updater.agent.engine.change_guards import require_no_unfinished_change
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.model.event_names import JOURNAL_FILE
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.agent.storage.overlay.layer import OverlayFile, parse_catalogue
    from ncen_updater.agent.storage.overlay.translation_exchange import import_translations
    from ncen_updater.common.bounded_io import read_file
    from ncen_updater.formats.manifest import OverlayFormat
    from ncen_updater.formats.texts.catalog import UnusableFileError

    name = file_language or path.stem
    file = _choose_file(layer, version, name, file_name)
    declared = file.declared
    as_po = path.suffix == ".po" or declared.format is OverlayFormat.PO
    po_declaration = declared.model_copy(update={"format": OverlayFormat.PO, "encoding": "utf-8"})
    try:
        content = read_file(path, 20_000_000)
        declaration = po_declaration if as_po else declared
        imported = parse_catalogue(OverlayFile(content, 0o644, -1, -1), declaration)
        own = layer.read_local(declared, name)
        versions = (version, *(v for v in reversed(site.slots.list_versions()) if v != version))
        releases = []
        for release in versions:
            with contextlib.suppress(UnusableFileError):
                releases.append(layer.read_shipped(declared, release, name))
        is_po = declared.format is OverlayFormat.PO
        result = import_translations(imported, own, releases, is_po=is_po, as_po=as_po)
    except UnusableFileError as error:
        raise _build_unusable_error(path, error) from error
    except OSError as error:
        raise UpdaterError(
            OVERLAY_FILE_UNUSABLE, path=path, why=error.strerror or error, state=NOTHING_CHANGED
        ) from error
    values: dict[str, object] = {
        "language": name, "added": len(result.added), "changed": len(result.changed),
        "unknown": len(result.unknown),
    }  # fmt: skip
    session.add_line(LazyText(N_("{language}: {added} new, {changed} changed"), values))
    if result.unknown:
        words = N_("Skipped, not in any installed release: {unknown}")
        session.add_line(LazyText(words, values))
    if result.added or result.changed:
        with Journal.open(site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            require_no_unfinished_change(journal)
        session.ask_confirmation(LazyText(N_("Import into the local overlay?")), assume_yes=yes)
        with (
            session.make_progress() as progress,
            Operations(site, progress).lock_idle_site("translations") as journal,
        ):
            layer.write_local(declared, name, result.local)
            _merge_overlay(layer, site, journal, {file.path: result.text_origins}, language=name)
        session.add_line(LazyText(N_("Imported. Active after the next start of the application.")))
        _show_refused(session, layer, version, file.local_path)
    session.write_output(
        {
            "language": name,
            "added": len(result.added),
            "changed": len(result.changed),
            "unknown": list(result.unknown),
        }
    )
    return ExitCode.OK


def _show_refused(session: AgentSession, layer: LocalOverlay, version: Version, own: str) -> None:
    """Show the number of unusable texts in a file, since the merge may reject imported texts."""
    from ncen_updater.agent.storage.overlay.three_way_merge import KeyOutcome

    report = layer.make_report(None, version)
    count = sum(len(f.select(KeyOutcome.REJECTED)) for f in report.files if f.local_path == own)
    if count:
        session.add_line(LazyText(N_("Unusable local texts: {count}"), {"count": count}))
        session.add_line(LazyText(N_("Run: sudo ncen-updater translations report")))


# ---- apply ---------------------------------------------------------------------------------------


def _apply_overlay(
    session: AgentSession, site: Site, layer: LocalOverlay, current: Version
) -> ExitCode:
    from ncen_updater.agent.engine.operations import Operations

    with (
        session.make_progress() as progress,
        Operations(site, progress).lock_idle_site("translations") as journal,
    ):
        name, changed = _merge_overlay(layer, site, journal)
    values = {"path": layer.merged_directory / name, "version": current}
    if changed:
        session.add_line(
            LazyText(
                N_("Merged for {version}: {path}. Active after the next start of the application."),
                values,
            )
        )
    else:
        session.add_line(LazyText(N_("Already merged: {path}"), values))
    session.write_output({"version": str(current), "merged": name, "changed": changed})
    return ExitCode.OK


def _merge_overlay(
    layer: LocalOverlay,
    site: Site,
    journal: Journal,
    origins: Mapping[str, TextOrigins] | None = None,
    **reported: object,
) -> tuple[str, bool]:
    """Merge the overlay for the installed release, activate it, and record changes.

    Args:
        layer: The local overlay.
        site: The site.
        journal: Journal, open for writing without an open change.
        origins: Source texts that imported texts translate, by file path.
        reported: Additional fields of the event.

    Returns:
        Name of the active merge, and whether it changed.
    """
    running, before = site.slots.read_current(), layer.read_current()
    assert running is not None  # noqa: S101 - checked by the command
    name = layer.build_merged(None, running, origins)
    if name != before:
        layer.switch_current(name)
    if name != before or reported:
        journal.record_event(
            "local-texts-merged", None, version=str(running), merged=name, **reported
        )
    return name, name != before
