"""Build a support bundle: collect the parts, compare them with the databases, pack and write."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ncen_updater.agent.adapters.databases.engines import ENGINES
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalStore
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.support_bundle.contents import (
    MAX_REHEARSALS,
    PART_NAMES,
    BundleCollector,
    CommandRunner,
    run_command,
)
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import (
    BundlePart,
    Leak,
    ValueSample,
    find_leaks,
    render_json,
    sample_values,
    split_words,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import iter_catalog_texts
from ncen_updater.common.messages import BUNDLE_UNWRITABLE, SUPPORT_BUNDLE_EXISTS, UNKNOWN_PART
from ncen_updater.common.progress import ProgressListener


@dataclass(frozen=True)
class SupportBundle:
    """A support bundle before it is written.

    Attributes:
        parts: All parts, including missing ones.
        leaks: Values of the databases that the parts contain.
        unread: Databases that were not compared, with the reason.
    """

    parts: tuple[BundlePart, ...]
    leaks: tuple[Leak, ...]
    unread: dict[str, str]

    def describe_contents(self) -> dict[str, object]:
        """Return the sizes of the parts, the missing parts, and the unread databases."""
        parts = {
            part.name: {"missing": part.missing_reason}
            if part.text is None
            else {"bytes": len(part.text.encode())}
            for part in self.parts
        }
        return {"parts": parts, "not_compared_with": self.unread}


def require_parts(names: Iterable[str]) -> None:
    """Refuse unknown names of parts.

    Raises:
        UNKNOWN_PART: With the names of all parts.
    """
    for name in names:
        if name not in PART_NAMES:
            raise UpdaterError(
                UNKNOWN_PART, part=name, known=", ".join(PART_NAMES), state=NOTHING_CHANGED
            )


def make_bundle(
    config_path: Path,
    progress: ProgressListener,
    now: datetime,
    *,
    leave_out: Sequence[str] = (),
    run: CommandRunner = run_command,
) -> SupportBundle:
    """Collect the parts and compare them with the databases.

    Args:
        config_path: The configuration file.
        progress: Receives the progress.
        now: The current time.
        leave_out: Names of parts to omit.
        run: Runs a system command.

    Raises:
        UNKNOWN_PART: If a name is not that of a part.
        ConfigError, JournalPermissionError: If this user may not read the site.
    """
    require_parts(leave_out)
    collector = BundleCollector(config_path, progress, now, run)
    collector.require_access()
    own = frozenset(_list_own_words(collector.config))
    parts = collector.collect_parts(leave_out, own)
    found = _sample_values(collector.config, config_path, own)
    return SupportBundle(parts, find_leaks(parts, found.values), dict(found.unread_databases))


def _sample_values(
    config: AgentConfig | None, config_path: Path, own: frozenset[str]
) -> ValueSample:
    if config is None:
        return ValueSample({}, {"*": "NU-1001"})
    try:
        engine = build_site(config, config_path).database_engine
        return sample_values(engine, own.union(_list_rehearsed_names(config)))
    except UpdaterError as error:
        return ValueSample({}, dict.fromkeys(config.databases.names, error.code))


def _list_own_words(config: AgentConfig | None) -> Iterator[str]:
    """Yield words of the agent's texts and configuration, which are not personal data."""
    for text in iter_catalog_texts():
        yield from split_words(text)
    yield from FORMAT_WORDS
    if config is None:
        return
    site = config.site
    for text in (site.id, site.country, site.product, config.service.timezone or ""):
        yield from split_words(text)
    for path in (config.paths.root, config.paths.state, config.paths.slots, config.paths.current):
        yield from split_words(str(path))
    for names in config.databases.names.items():
        for name in names:
            yield from split_words(name)


def _list_rehearsed_names(config: AgentConfig) -> Iterator[str]:
    """Yield words in the names of tables and code lists of releases, which are not personal data.

    A code in such a list may look like one of these names.
    """
    try:
        with Journal.open(
            config.paths.resolve(config.paths.state) / JOURNAL_FILE, read_only=True
        ) as journal:
            reports = [
                record.report for record in RehearsalStore(journal).list_newest(MAX_REHEARSALS)
            ]
    except UpdaterError:  # the part with the rehearsals is then missing
        return
    for report in reports:
        for hop in report.hops if report is not None else ():
            for item in hop.reference_maps:
                yield from split_words(item.name)
            for database, tables in hop.changed_tables.items():
                for name in (database, *tables):
                    yield from split_words(name)


#: Words of the file formats themselves.
FORMAT_WORDS = frozenset(
    word
    for text in (
        *PART_NAMES,
        *ENGINES,
        "gnu linux debian ubuntu bookworm trixie python x86_64 aarch64 amd64 "
        "active inactive failed loaded dead running exited success notify text info true false "
        "null none migrate restore copy generation",
    )
    for word in split_words(text)
)


def pack_bundle(bundle: SupportBundle, now: datetime) -> bytes:
    """Return the bundle as ``.tar.gz``."""
    contents = render_json({"schema": 1, "made_at": now, **bundle.describe_contents()})
    files = [("contents.json", contents)]
    files += [(part.name, part.text) for part in bundle.parts if part.text is not None]
    return _pack_files(files, now)


def write_archive(data: bytes, path: Path) -> int:
    """Write a packed bundle, readable only by its owner; return its size in bytes.

    Raises:
        SUPPORT_BUNDLE_EXISTS: If the path exists.
        BUNDLE_UNWRITABLE: If the file cannot be written.
    """
    if os.path.lexists(path):
        raise UpdaterError(SUPPORT_BUNDLE_EXISTS, path=path)
    try:
        durable.write_file(path, data, 0o600)
    except OSError as error:
        raise UpdaterError(
            BUNDLE_UNWRITABLE, path=path, reason=os.strerror(error.errno or 0)
        ) from error
    return len(data)


def _pack_files(files: Iterable[tuple[str, str]], now: datetime) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, text in files:
            content = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"support-bundle/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now.timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)
