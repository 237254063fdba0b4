"""``monitor``: check the public feed as a site sees it, and warn before sites are affected."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from ncen_updater.common.cli.render import finding_to_json, format_findings
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import MONITOR_PLACE_FAILED, ExitCode
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.http_session import ReadDeadline, make_bounded_session
from ncen_updater.publisher.cli.feed import format_emergency_halt
from ncen_updater.publisher.cli.options import (
    FILE_PATH,
    get_time,
    published_feed_option,
    publisher_command,
    show_line,
)
from ncen_updater.publisher.distribute.metadata_history import (
    MetadataHistory,
    find_equivocations,
    find_outdated,
)
from ncen_updater.publisher.distribute.monitor import (
    FeedMonitor,
    choose_exit_code,
    report_failure,
)
from ncen_updater.publisher.distribute.server_probe import ServerProbe
from ncen_updater.publisher.feed.feed_directory import FeedDirectory

TIMEOUT_S = 80.0  # for the response headers, and between two chunks of a file


@publisher_command()
@click.argument("url")
@click.option(
    "--root",
    type=FILE_PATH,
    required=True,
    help=N_("Trusted root metadata from another source, such as 1.root.json"),
)
@published_feed_option
@click.option("--deep", is_flag=True, help=N_("Download and verify every file"))
@click.option(
    "--also",
    metavar="URL",
    multiple=True,
    help=N_("Another URL of the same feed, to compare its metadata (repeatable)"),
)
@click.option(
    "--history",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_("History of this monitor: compared and extended; publish it for others"),
)
@click.option(
    "--compare",
    type=FILE_PATH,
    multiple=True,
    help=N_("History of another monitor, to compare (repeatable)"),
)
@click.option("--proxy", help=N_("URL of a proxy"))
@click.option("--ca-file", type=FILE_PATH, help=N_("Certificates of a private authority"))
def monitor(
    session: CliSession,
    url: str,
    root: Path,
    feed: Path | None,
    deep: bool,
    also: tuple[str, ...],
    history: Path | None,
    compare: tuple[Path, ...],
    proxy: str | None,
    ca_file: Path | None,
) -> ExitCode:
    for address in (url, *also):
        if not address.startswith(("https://", "http://")):
            raise CommandUsageError(N_("must be an https:// or http:// URL"), hint="URL")
    # Before any request: if the old history is unreadable, no new one may be written.
    histories = [
        MetadataHistory(path).read_observed()
        for path in (*([history] if history else ()), *compare)
    ]
    published = FeedDirectory(feed).read_state() if feed is not None else None

    def make_fetcher(address: str) -> HttpFetcher:
        return HttpFetcher((address,), proxy=proxy, ca_file=ca_file)

    deadline = ReadDeadline(TIMEOUT_S, time.monotonic)
    with (
        make_bounded_session(deadline, proxy=proxy, ca_file=ca_file) as http,
        session.make_progress() as progress,
    ):
        checks = FeedMonitor(root, make_fetcher, get_time, progress)
        probe = ServerProbe(url, http)
        report = checks.check_feed(url, probe, published, deep)
        findings, places = list(report.findings), [report.observed_metadata]
        for address in also:
            try:
                places.append(checks.observe_metadata(address))
            except UpdaterError as error:
                findings.append(report_failure(MONITOR_PLACE_FAILED, address, error))
    shown = [one for place in places for one in place]
    earlier = [one for lists in histories for one in lists]
    findings += find_equivocations((*earlier, *shown))
    findings += find_outdated(places, earlier)
    added = MetadataHistory(history).append_new(shown, get_time()) if history else 0
    role_line = N_("{role}: version {version}, {days_left} days left")
    for role in report.roles:
        show_line(session, LazyText(role_line, dataclasses.asdict(role)))
    for halt in report.emergency_halts:
        show_line(session, format_emergency_halt(halt))
    for line in format_findings(findings, session.language):
        session.add_line(line)
    code = choose_exit_code(findings)
    if report.roles:
        files = {"count": report.targets, "bytes": report.bytes}
        show_line(session, LazyText(N_("{count} signed files, {bytes}"), files))
    if history:
        line = N_("{count} metadata versions added to {path}")
        show_line(session, LazyText(line, {"count": added, "path": history}))
    if not findings:
        show_line(session, LazyText(N_("Feed intact; no metadata expires soon.")))
    session.write_output(
        {
            "url": url,
            "exit_code": int(code),
            "roles": [dataclasses.asdict(role) for role in report.roles],
            "emergency_halts": [dataclasses.asdict(halt) for halt in report.emergency_halts],
            "targets": report.targets,
            "bytes": report.bytes,
            "findings": [finding_to_json(f, session.language) for f in findings],
            "metadata": [dataclasses.asdict(one) for one in shown],
            "added": added,
        }
    )
    return code
