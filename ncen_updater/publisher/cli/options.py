"""Shared parts of the publisher's commands: paths, passphrases, keys, output of results."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.common.cli.characters import strip_control_characters, wrap_text
from ncen_updater.common.cli.lazy import IntegerRange, get_session
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BAD_PASSPHRASE_SOURCE,
    NO_TERMINAL_FOR_PASSPHRASE,
    OWN_ROOT_UNUSABLE,
    PRODUCT_NEEDED,
)
from ncen_updater.publisher.errors import describe_system_error

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer
    from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

    from ncen_updater.common.cli.session import CliSession
    from ncen_updater.formats.release_document import Withdrawal
    from ncen_updater.formats.rollout import PublishCondition, RolloutWave
    from ncen_updater.publisher.build.attachments import AttachmentReport
    from ncen_updater.publisher.distribute.feed_status import SignatureStatus
    from ncen_updater.publisher.feed.feed_directory import FeedState
    from ncen_updater.publisher.fleet.releases import Regions
    from ncen_updater.publisher.review.event_review import EventReview
    from ncen_updater.publisher.signing.draft import Draft
    from ncen_updater.publisher.signing.release_comparison import ComparedRelease
    from ncen_updater.publisher.signing.signer_settings import SignerSettings
    from ncen_updater.publisher.signing.signing_event import SigningEvent

    DraftMaker = Callable[[FeedState, str], Draft]

DIRECTORY_PATH = click.Path(path_type=Path, file_okay=False)
FILE_PATH = click.Path(path_type=Path, dir_okay=False, exists=True)
#: Key ID of the signature slot on a token.
SIGNATURE_SLOT = 2
MAX_PASSPHRASE_BYTES = 10_000
#: Line width of every terminal, and indentation of continuation lines.
LINE_WIDTH, HANGING_INDENT = 80, 2
NO_ROOT_WARNING = N_(
    "WARNING: not compared with your own root metadata; the changes shown depend on the"
    " author of the draft. Add --root."
)
PROVENANCE_UNCHECKED_WARNING = N_(
    "WARNING: provenance not verified with the key of the builder. Add --builder-key."
)
FILES_COMPARED = N_("{product} {version}: {files} files match the event")
DOCUMENT_COMPARED = N_("{product} {version}: description matches the metadata")

feed_option = click.option(
    "--feed", type=DIRECTORY_PATH, required=True, help=N_("Directory of the published feed")
)
event_option = click.option(
    "--event", type=DIRECTORY_PATH, required=True, help=N_("New directory for the signing event")
)
root_option = click.option(
    "--root",
    type=FILE_PATH,
    help=N_("Trusted root metadata from another source, such as 1.root.json"),
)

regions_option = click.option(
    "--regions",
    type=FILE_PATH,
    help=N_("Regions and their countries (regions.toml), for a WAVE such as TIME=100:@leaders"),
)

record_option = click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("fleet.db"),
    help=N_("Database of receipts (default: fleet.db)"),
)

builder_option = click.option(
    "--builder-key", type=FILE_PATH, help=N_("Public key of the builder, NAME.pub.json")
)


signer_option = click.option(
    "--signer",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_(
        "Settings of the signer (default: NCEN_SIGNER, then ~/.config/ncen-publisher/signer.toml)"
    ),
)


def load_signer_settings(named: Path | None) -> SignerSettings:
    """Load the settings of the signer.

    Raises:
        UpdaterError: If the given file is missing or invalid.
    """
    from ncen_updater.publisher.signing.signer_settings import (
        find_settings_path,
        load_signer_settings,
    )

    return load_signer_settings(find_settings_path(named, os.environ))


@contextlib.contextmanager
def open_event(place: Path) -> Iterator[SigningEvent]:
    """Load a signing event from its directory or its single file.

    Raises:
        UpdaterError: As :meth:`SigningEvent.load`.
    """
    from ncen_updater.publisher.signing.event_files import unpack_event
    from ncen_updater.publisher.signing.signing_event import SigningEvent

    if place.is_dir():
        yield SigningEvent.load(place)
        return
    with tempfile.TemporaryDirectory(prefix="nu-event-") as folder:
        unpack_event(place, Path(folder))
        yield SigningEvent.load(Path(folder))


product_option = click.option(
    "--product", help=N_("Product (default: the only product besides the agent)")
)


def choose_product(state: FeedState, named: str | None) -> str:
    """Return the given product, or the only one besides the agent.

    Raises:
        PRODUCT_NEEDED: With the names of all products, if none is given and there are several.
    """
    from ncen_updater.formats.target_names import AGENT_PRODUCT
    from ncen_updater.publisher.feed.feed_directory import list_delegated_roles

    if named is not None:
        return named
    known = [name for name in list_delegated_roles(state.targets.signed) if name != AGENT_PRODUCT]
    if len(known) != 1:
        raise UpdaterError(PRODUCT_NEEDED, products=", ".join(sorted(known)) or "-")
    return known[0]


def versioned_draft(command: Callable[..., DraftMaker]) -> Callable[..., Any]:
    """Make a command that drafts a signing event on VERSION from a function that makes the draft.

    The command gets VERSION, --feed, --event and --product; it writes and shows the event.
    """

    @click.pass_context
    def run(
        context: click.Context, /, feed: Path, event: Path, product: str | None, **rest: object
    ) -> None:
        from ncen_updater.publisher.feed.feed_directory import FeedDirectory

        make = command(**rest)
        state = FeedDirectory(feed).read_state()
        write_event(context, event, make(state, choose_product(state, product)), state)

    made = functools.update_wrapper(run, command)
    for option in (product_option, event_option, feed_option, click.argument("version")):
        made = option(made)
    return made


def write_event(context: click.Context, event: Path, draft: Draft, state: FeedState | None) -> None:
    """Write a draft as a signing event, and show it."""
    from ncen_updater.publisher.signing.signing_event import SigningEvent

    show_event(get_session(context), SigningEvent.create(event, draft.title, draft.roles, state))


def add_token_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that identify a key on a token, besides its label."""
    command = click.option(
        "--module",
        type=click.Path(path_type=Path, dir_okay=False),
        help=N_("PKCS#11 driver of the token"),
    )(command)
    return click.option(
        "--key-id",
        type=IntegerRange(1, 255),
        help=N_("Id of the key on the token (default: 2, the signature slot)"),
    )(command)


def get_time() -> datetime:
    """Return the current time (UTC)."""
    return datetime.now(UTC)


def parse_waves(texts: Sequence[str], regions: Path | None) -> list[RolloutWave]:
    """Parse waves: ``TIME=PERCENT`` or ``TIME=PERCENT:COUNTRY,COUNTRY``, also with ``@REGION``.

    Args:
        texts: The texts.
        regions: File that defines the regions.

    Raises:
        CommandUsageError: If the form is wrong, or a country or region is unknown.
        REGIONS_INVALID: If the file is invalid.
    """
    from ncen_updater.publisher.fleet.releases import read_regions

    known = read_regions(regions)
    return [_parse_wave(text, known) for text in texts]


def parse_publish_condition(
    text: str, product: str, version: str, regions: Path | None
) -> PublishCondition:
    """Parse a publish condition: ``COUNT:COUNTRY,COUNTRY``, also with ``@REGION``.

    Raises:
        CommandUsageError: If the form is wrong, or a country or region is unknown.
        REGIONS_INVALID: If the file is invalid.
    """
    from ncen_updater.formats.rollout import PublishCondition
    from ncen_updater.publisher.fleet.releases import read_regions

    count, _, places = text.partition(":")
    countries = _parse_countries(text, places, read_regions(regions), "--after")
    try:
        return PublishCondition(
            product=product, version=version, count=int(count), countries=tuple(countries)
        )
    except ValueError as error:
        words = N_("{text}: use the form 4:@leaders or 2:KE,SN,FR")
        raise CommandUsageError(words, hint="--after", text=text) from error


def _parse_wave(text: str, regions: Regions) -> RolloutWave:
    from ncen_updater.formats.rollout import RolloutWave

    opens, _, rest = text.partition("=")
    percent, _, places = rest.partition(":")
    countries = _parse_countries(text, places, regions, "WAVE")
    try:
        return RolloutWave.model_validate(
            {
                "opens": opens,
                "percent": int(percent) if percent.isascii() and percent.isdigit() else percent,
                "countries": countries,
            }
        )
    except ValueError as error:
        words = N_("{text}: use the form 2026-12-01T08:00:00Z=10 or 2026-12-01T08:00:00Z=100:SN,MU")
        raise CommandUsageError(words, hint="WAVE", text=text) from error


def _parse_countries(text: str, places: str, regions: Regions, hint: str) -> list[str]:
    from ncen_updater.publisher.fleet.releases import list_countries
    from ncen_updater.publisher.signing.draft import impossible

    countries: list[str] = []
    for part in places.split(","):
        try:
            named = list_countries(regions, part[1:]) if part.startswith("@") else (part,)
        except KeyError as error:
            words = N_("{text}: unknown region {region} (option --regions)")
            raise CommandUsageError(words, hint=hint, text=text, region=part) from error
        countries += [one for one in named if one and one not in countries]
    wrong = impossible(countries)
    if wrong:
        raise CommandUsageError(
            N_("{text}: unknown country {country}"), hint=hint, text=text, country=wrong[0]
        )
    return countries


def add_passphrase_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for passphrases; a passphrase is never given on the command line."""
    command = click.option(
        "--passphrase-fd",
        type=int,
        default=None,
        help=N_(
            "Read passphrases from this file descriptor: one line for all keys, or one per key"
        ),
    )(command)
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        help=N_("Read passphrases from this file, readable by you only"),
    )(command)


def make_passphrase_prompt(
    session: CliSession, descriptor: int | None, file: Path | None, *, new: bool = False
) -> Callable[[Path], str]:
    """Return a function that returns the passphrase of a key.

    Raises:
        BAD_PASSPHRASE_SOURCE: If the source is unreadable, or readable by other users.
    """
    if descriptor is not None and file is not None:
        raise UpdaterError(BAD_PASSPHRASE_SOURCE, source=file, detail="give only one source")
    if descriptor is None and file is None:
        return lambda path: _prompt_passphrase(session, path, confirm=new)
    source = str(file) if file is not None else f"descriptor {descriptor}"
    try:
        content = _read_file(file) if file is not None else _read_descriptor(descriptor or 0)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UpdaterError(
            BAD_PASSPHRASE_SOURCE, source=source, detail=describe_system_error(error)
        ) from error
    if not lines or not all(lines):
        raise UpdaterError(BAD_PASSPHRASE_SOURCE, source=source, detail="empty")
    remaining = iter(lines)

    def next_line(path: Path) -> str:
        if len(lines) == 1:
            return lines[0]
        try:
            return next(remaining)
        except StopIteration:
            raise UpdaterError(
                BAD_PASSPHRASE_SOURCE,
                source=source,
                detail=LazyText("no line for {path}", {"path": path}),
            ) from None

    return next_line


def ask_pin(session: CliSession, descriptor: int | None, file: Path | None, label: str) -> str:
    """Ask for the PIN of a token, from the same sources as a passphrase.

    Raises:
        BAD_PASSPHRASE_SOURCE: If the source is unreadable, or readable by other users.
    """
    if descriptor is None and file is None:
        _require_terminal(label)
        words = session.translate(N_("PIN of token {label}"), label=label)
        value: str = session.prompt(words, hide_input=True)
        return value
    return make_passphrase_prompt(session, descriptor, file)(Path(label))


def has_terminal() -> bool:
    """Return whether a secret can be typed at a terminal, which need not be stdin."""
    if sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _require_terminal(name: str) -> None:
    """Refuse to prompt without a terminal: the input would be read from elsewhere.

    Raises:
        NO_TERMINAL_FOR_PASSPHRASE: If there is no terminal.
    """
    if not has_terminal():
        raise UpdaterError(NO_TERMINAL_FOR_PASSPHRASE, name=name)


def _prompt_passphrase(session: CliSession, path: Path, *, confirm: bool) -> str:
    _require_terminal(path.name)
    value: str = session.prompt(
        session.translate(N_("Passphrase of {name}"), name=path.name),
        hide_input=True,
        confirmation_prompt=session.translate(N_("Repeat the passphrase")) if confirm else False,
    )
    return value


def _read_file(path: Path) -> bytes:
    with path.open("rb") as stream:
        info = os.fstat(stream.fileno())
        others = stat.S_IRWXG | stat.S_IRWXO
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory and path.parent == Path(directory):
            # systemd grants a credential to one user with an ACL, whose mask appears as group
            # permissions.
            others &= ~stat.S_IRGRP
        if info.st_mode & others or info.st_uid not in (0, os.geteuid()):
            raise UpdaterError(BAD_PASSPHRASE_SOURCE, source=path, detail="readable by other users")
        return stream.read(MAX_PASSPHRASE_BYTES)


def _read_descriptor(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        return stream.read(MAX_PASSPHRASE_BYTES)


def show_line(session: CliSession, text: LazyText | str, indent: str = "") -> None:
    """Add one line of output, without control characters and line breaks.

    A draft comes from another user, who must not be able to hide a line from the reader.
    """
    message = text.render(session.language) if isinstance(text, LazyText) else text
    session.add_line(indent + strip_control_characters(message).replace("\n", " "))


def show_wrapped(session: CliSession, text: LazyText | str) -> None:
    """Add a sentence to the output, wrapped at the width of every terminal."""
    message = text.render(session.language) if isinstance(text, LazyText) else text
    message = strip_control_characters(message).replace("\n", " ")
    indent = len(message) - len(message.lstrip(" "))
    first, *more = wrap_text(message.strip(" "), LINE_WIDTH - indent - HANGING_INDENT)
    session.add_line(" " * indent + first)
    for line in more:
        session.add_line(" " * (indent + HANGING_INDENT) + line)


def parse_withdrawal(reason: str, advice: str) -> Withdrawal:
    """Parse the reason and advice of a withdrawal.

    Raises:
        CommandUsageError: If the advice is missing, or a text is too long.
    """
    from ncen_updater.formats.release_document import Withdrawal

    if not advice.strip():
        raise CommandUsageError(N_("give the advice shown to sites"), hint="--advice")
    try:
        return Withdrawal(reason=reason, advice=advice)
    except ValueError as error:
        raise CommandUsageError(
            N_("must have 1 to 1000 characters"), hint="--reason, --advice"
        ) from error


def show_result(
    session: CliSession, data: Mapping[str, object], sentence: str, *lines: str, **reported: object
) -> None:
    """Output a result as JSON, or as a sentence with further lines.

    Args:
        session: The session.
        data: The result; its values are also available in the sentence.
        sentence: A template.
        *lines: Further lines.
        **reported: Values formatted for the sentence only.
    """
    plain = {k: ", ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in data.items()}
    show_line(session, LazyText(sentence, {**plain, **reported}))
    for line in lines:
        show_line(session, line, "  ")
    session.write_output(data)


def verify_event_root(event: SigningEvent, root: Path | None) -> None:
    """Compare an event with the signer's own root metadata.

    Raises:
        UpdaterError: If the event is not based on it, or the file is not root metadata.
    """
    event.verify_root(_read_own_root(root) if root is not None else None)


def _read_own_root(path: Path) -> Metadata[Root]:
    """Read the signer's own root metadata; report errors as the signer's, not the drafter's."""
    from ncen_updater.publisher.signing.event_files import read_metadata

    try:
        return read_metadata(path, "root")
    except UpdaterError as error:
        raise UpdaterError(OWN_ROOT_UNUSABLE, path=path, detail=error.detail) from error


def check_event_releases(
    event: SigningEvent, staging: Path | None, builder_key: Path | None, *, unread: bool
) -> list[ComparedRelease]:
    """Compare the releases that an event adds with its metadata.

    Args:
        event: The event.
        staging: Directory of the files; None to compare only the documents in the event.
        builder_key: Public key file of the builder.
        unread: As in :func:`compare_event_files`.

    Raises:
        UpdaterError: As :func:`compare_staged_files` and :func:`compare_event_files`.
    """
    from ncen_updater.publisher.signing.keys import load_public_key
    from ncen_updater.publisher.signing.release_comparison import (
        compare_event_files,
        compare_staged_files,
    )

    builder = load_public_key(builder_key) if builder_key else None
    if staging is not None:
        return compare_staged_files(event, staging, builder)
    return compare_event_files(event, builder, unread=unread)


def format_attachments(attachments: AttachmentReport) -> list[LazyText]:
    """Return lines that describe the attachments of a release."""
    parts = LazyText(N_("No SBOM"))
    if attachments.component_count is not None:
        parts = LazyText(N_("SBOM: {count} components"), {"count": attachments.component_count})
    if attachments.provenance_unchecked:
        return [parts, LazyText(PROVENANCE_UNCHECKED_WARNING)]
    if attachments.provenance is None:
        return [parts, LazyText(N_("No provenance"))]
    predicate = attachments.provenance
    sources = predicate["buildDefinition"].get("resolvedDependencies") or [{}]
    values = {
        "builder": predicate["runDetails"]["builder"]["id"],
        "source": sources[0].get("uri", "-"),
        "commit": (sources[0].get("digest") or {}).get("gitCommit", "-"),
    }
    return [parts, LazyText(N_("Built by {builder} from {source}, commit {commit}"), values)]


def show_event(
    session: CliSession,
    event: SigningEvent,
    *,
    root_compared: bool = True,
    releases: Sequence[ComparedRelease] = (),
    page: EventReview | None = None,
    html: Path | None = None,
    place: Path | None = None,
) -> None:
    """Show the changes of an event and its signatures: the review page for signers.

    Args:
        session: The session.
        event: The event.
        root_compared: Whether the event was made here from the feed, or compared with the reader's
            own root metadata.
        releases: Releases that were compared with the event.
        page: The review page, if already built.
        html: HTML file to write as well.
        place: Path of the event; by default its directory.
    """
    from ncen_updater.common import atomic_files
    from ncen_updater.publisher.distribute.feed_status import read_signature_status
    from ncen_updater.publisher.review.event_review import build_review
    from ncen_updater.publisher.review.text_page import (
        format_annex,
        format_details,
        format_summary,
        render_html,
    )

    page = page or build_review(event)
    lines, signatures = [*page.lines, *page.annex], read_signature_status(event)
    for text in format_summary(page):
        show_wrapped(session, text)
    for text in format_details(page, session.language):
        show_line(session, text)
    compared = [
        (
            LazyText(DOCUMENT_COMPARED if one.files is None else FILES_COMPARED, vars(one)),
            format_attachments(one.attachments),
        )
        for one in releases
    ]
    for value, attachments in compared:
        show_line(session, value)
        for text in attachments:
            show_line(session, text, "  ")
    if not root_compared:
        show_line(session, LazyText(NO_ROOT_WARNING))
    signed = list(_format_signatures(signatures))
    for text in signed:
        show_line(session, text)
    for text in format_annex(page):
        show_line(session, text)
    if html is not None:
        remarks = [LazyText(NO_ROOT_WARNING)] if not root_compared else []
        remarks += [
            text
            for _, attachments in compared
            for text in attachments
            if text.template == PROVENANCE_UNCHECKED_WARNING
        ]
        content = render_html(page, remarks, session.language, compared=compared, signed=signed)
        atomic_files.write_file(html, content)
    changes = [
        {
            "role": line.role,
            "text": line.text.render(session.language),
            "figures": dict(line.figures),
        }
        for line in lines
    ]
    session.write_output(
        {
            "event": str(place or event.directory),
            "title": event.title,
            "digest": event.digest,
            "anchored": root_compared,
            "page": str(html) if html is not None else None,
            "sentences": [text.render(session.language) for text in page.sentences],
            "grave": [text.render(session.language) for text in page.critical],
            "warnings": [
                text.render(session.language) for text in (*page.critical, *page.warnings)
            ],
            "harmless": page.info_count,
            "changes": changes,
            "releases": [dataclasses.asdict(release) for release in releases],
            "signatures": [dataclasses.asdict(item) for item in signatures],
        }
    )


def show_signatures(session: CliSession, signatures: Sequence[SignatureStatus]) -> None:
    """Show existing and missing signatures."""
    for text in _format_signatures(signatures):
        show_line(session, text)
    session.write_output({"signatures": [dataclasses.asdict(item) for item in signatures]})


def _format_signatures(signatures: Sequence[SignatureStatus]) -> Iterator[LazyText]:
    complete = N_("{role} version {version}: signed by {names}; threshold reached")
    lacking = N_(
        "{role} version {version}: signed by {names}; missing: {lacking} of {threshold};"
        " can sign: {open}"
    )
    for item in signatures:
        values = {
            "role": item.role,
            "version": item.version,
            "names": ", ".join(item.signed) or LazyText(N_("nobody yet")),
            "threshold": item.threshold,
            "lacking": item.missing_count,
            "open": ", ".join(item.missing) or "-",
        }
        yield LazyText(complete if item.complete else lacking, values)
    if all(item.complete for item in signatures):
        words = N_(
            "To list all signatures after publication, run: ncen-publisher status FEED"
            " --signing-history"
        )
        yield LazyText(words)


@dataclass(frozen=True)
class SigningKey:
    """A key for signing.

    Attributes:
        public: Its public key.
        name: Base name of its files.
        beside: Directory of the list of signed events.
        opened: Opens the private key once, asking for its passphrase or PIN.
    """

    public: Key
    name: str
    beside: Path
    opened: Callable[[], Signer]


def load_key_file(key: Path, ask: Callable[[Path], str]) -> SigningKey:
    """Load a private key file.

    Raises:
        UpdaterError: If its public key file is invalid.
    """
    from ncen_updater.publisher.signing.keys import (
        PRIVATE_SUFFIX,
        get_public_path,
        load_public_key,
        open_signer,
    )

    public = load_public_key(get_public_path(key))
    name = key.name.removesuffix(PRIVATE_SUFFIX)
    return SigningKey(public, name, key.parent, lambda: open_signer(key, ask))


def load_token_key(
    label: str,
    key_id: int | None,
    module: Path | None,
    may_sign: Sequence[Key],
    ask_pin: Callable[[str], str],
    beside: Path,
) -> SigningKey:
    """Load a key on a token.

    Args:
        label: Label of the token.
        key_id: ID of the key on the token; by default that of the signature slot.
        module: PKCS#11 driver; by default an installed one.
        may_sign: Keys of which the token must have one.
        ask_pin: Asks for the PIN of a token.
        beside: Directory of the list of signed events.

    Raises:
        UpdaterError: If the token is missing, or has another key.
    """
    from ncen_updater.publisher.signing import tokens
    from ncen_updater.publisher.signing.keys import get_key_owner

    held = tokens.TokenKey(label, key_id or SIGNATURE_SLOT, tokens.find_module(module))
    public = tokens.find_token_key(held, may_sign)

    def open_signer() -> Signer:
        return tokens.open_token(held, may_sign, lambda: ask_pin(label))

    return SigningKey(public, get_key_owner(public), beside, open_signer)
