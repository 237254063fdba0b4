"""Shared parts of the publisher's commands: paths, passphrases, keys, output of results."""

from __future__ import annotations

import dataclasses
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from securesystemslib.signer import Key, Signer

from ncen_updater.common import atomic_files
from ncen_updater.common.cli.characters import strip_control_characters, wrap_text
from ncen_updater.common.cli.lazy import IntegerRange, PublisherCommand, define_command
from ncen_updater.common.cli.render import format_findings
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import GIVE_ONE, OPTION_NEEDED, CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    BAD_PASSPHRASE_SOURCE,
    NO_TERMINAL_FOR_PASSPHRASE,
    PRODUCT_NEEDED,
    ExitCode,
)
from ncen_updater.formats.rollout import (
    MAX_REASON_CHARS,
    PublishCondition,
    RolloutWave,
    find_invalid_countries,
)
from ncen_updater.formats.target_names import AGENT_PRODUCT
from ncen_updater.publisher.build.attachments import AttachmentReport
from ncen_updater.publisher.distribute.feed_status import SignatureStatus, read_signature_status
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.feed.feed_directory import (
    FeedDirectory,
    FeedState,
    list_delegated_roles,
)
from ncen_updater.publisher.fleet.releases import Regions, list_countries, read_regions
from ncen_updater.publisher.review.event_review import EventReview, build_review
from ncen_updater.publisher.review.text_page import (
    format_annex,
    format_details,
    format_summary,
    render_html,
)
from ncen_updater.publisher.signing import tokens
from ncen_updater.publisher.signing.draft import Draft
from ncen_updater.publisher.signing.keys import (
    PRIVATE_SUFFIX,
    get_key_owner,
    get_public_path,
    load_public_key,
    open_signer,
)
from ncen_updater.publisher.signing.release_comparison import (
    ComparedRelease,
)
from ncen_updater.publisher.signing.signer_settings import (
    SignerSettings,
    find_settings_path,
    load_signer_settings,
)
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
    " drafter. Add --root."
)
PROVENANCE_UNCHECKED_WARNING = N_(
    "WARNING: provenance not verified with the key of the builder. Add --builder-key."
)
FILES_COMPARED = N_("{product} {version}: {files} files match the event")
DOCUMENT_COMPARED = N_("{product} {version}: description matches the metadata")


def publisher_command(text: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """Define a command of the publisher; see :func:`define_command`."""
    return define_command(PublisherCommand, text)


def bundle_options(
    parameter: str, kind: type, *options: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds options, whose values a command gets as one object.

    Args:
        parameter: Parameter of the command.
        kind: A dataclass with a field for each option.
        *options: The options.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: object, **given: object) -> object:
            values = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}
            return command(*arguments, **{parameter: kind(**values)}, **given)

        made = functools.update_wrapper(run, command)
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


feed_option = click.option(
    "--feed", type=DIRECTORY_PATH, required=True, help=N_("Directory of the published feed")
)
event_option = click.option(
    "--event", type=DIRECTORY_PATH, required=True, help=N_("New directory for the signing event")
)
published_feed_option = click.option(
    "--feed", type=DIRECTORY_PATH, help=N_("Published feed, to compare with")
)
yes_option = click.option("--yes", is_flag=True, help=N_("Skip the confirmation prompt"))
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


def require_words(
    _context: click.Context, parameter: click.Parameter, text: str | None
) -> str | None:
    """Refuse a published text without words, or one that would have to be cut.

    Raises:
        CommandUsageError: If the text is blank or too long.
    """
    if text is not None and not (text.strip() and len(text) <= MAX_REASON_CHARS):
        words = N_("must have 1 to 1000 characters")
        raise CommandUsageError(words, hint=parameter.opts[0])
    return text


def load_settings(named: Path | None) -> SignerSettings:
    """Load the settings of the signer: the given file, else the usual one.

    Raises:
        UpdaterError: If the file is missing or invalid.
    """
    return load_signer_settings(find_settings_path(named, os.environ))


product_option = click.option(
    "--product", help=N_("Product (default: the only product besides the agent)")
)


def choose_product(state: FeedState, named: str | None) -> str:
    """Return the given product, or the only one besides the agent.

    Raises:
        PRODUCT_NEEDED: With the names of all products, if none is given and there are several.
    """
    if named is not None:
        return named
    known = [name for name in list_delegated_roles(state.targets.signed) if name != AGENT_PRODUCT]
    if len(known) != 1:
        raise UpdaterError(PRODUCT_NEEDED, products=", ".join(sorted(known)) or "-")
    return known[0]


def draft_command(text: str | None = None) -> Callable[[Callable[..., DraftMaker]], click.Command]:
    """Define a command that drafts a signing event on VERSION.

    Its function returns another one, which makes the draft from the feed and the product.

    Args:
        text: As for :func:`publisher_command`.
    """

    def define(function: Callable[..., DraftMaker]) -> click.Command:
        def run(
            session: CliSession, feed: Path, event: Path, product: str | None, **rest: object
        ) -> None:
            make = function(**rest)
            state = FeedDirectory(feed).read_state()
            write_event(session, event, make(state, choose_product(state, product)), state)

        made = functools.update_wrapper(run, function)
        for option in (product_option, event_option, feed_option, click.argument("version")):
            made = option(made)
        return publisher_command(text)(made)

    return define


def write_event(session: CliSession, event: Path, draft: Draft, state: FeedState | None) -> None:
    """Write a draft as a signing event, and show it."""
    show_event(session, SigningEvent.create(event, draft.title, draft.roles, state))


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
    count, _, places = text.partition(":")
    countries = _parse_countries(text, places, read_regions(regions), "--after")
    try:
        return PublishCondition(
            product=product, version=version, count=int(count), countries=tuple(countries)
        )
    except ValueError as error:
        words = N_(
            "{text}: use the form N:COUNTRIES, such as 2:KE,SN,FR, with N at most the number of"
            " countries"
        )
        raise CommandUsageError(words, hint="--after", text=text) from error


def _parse_wave(text: str, regions: Regions) -> RolloutWave:
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
        words = N_("{text}: use the form 2030-12-03T08:00:00Z=10 or 2030-12-03T08:00:00Z=100:SN,MU")
        raise CommandUsageError(words, hint="WAVE", text=text) from error


def _parse_countries(text: str, places: str, regions: Regions, hint: str) -> list[str]:
    countries: list[str] = []
    for part in places.split(","):
        if part.startswith("@") and not regions:
            raise CommandUsageError(OPTION_NEEDED, option=part, other="--regions")
        try:
            named = list_countries(regions, part[1:]) if part.startswith("@") else (part,)
        except KeyError as error:
            words = N_("{text}: unknown region {region} (option --regions)")
            raise CommandUsageError(words, hint=hint, text=text, region=part) from error
        countries += [one for one in named if one and one not in countries]
    wrong = find_invalid_countries(countries)
    if wrong:
        raise CommandUsageError(N_("unknown country {country}"), hint=hint, country=wrong[0])
    return countries


@dataclass(frozen=True)
class PassphraseSource:
    """A source of passphrases and PINs; by default they are typed at a terminal.

    None is ever given on the command line.

    Attributes:
        file: A file, or a pipe such as ``/dev/fd/3``, that only its user can read.
    """

    file: Path | None

    def make_prompt(self, session: CliSession, *, new: bool = False) -> Callable[[Path], str]:
        """Return a function that returns the passphrase of a key.

        Raises:
            BAD_PASSPHRASE_SOURCE: If the source is unreadable, or readable by other users.
        """
        if self.file is None:
            return lambda path: _prompt_passphrase(session, path, confirm=new)
        return self._read_next

    @functools.cached_property
    def _read_next(self) -> Callable[[Path], str]:
        # Read once for all keys: a pipe is empty afterwards, and each key has its own line.
        assert self.file is not None  # noqa: S101 - only called with one
        lines = _read_lines(self.file)
        remaining = iter(lines)

        def next_line(path: Path) -> str:
            line = lines[0] if len(lines) == 1 else next(remaining, None)
            if line is None:
                detail = f"no line for {path}"
                raise UpdaterError(BAD_PASSPHRASE_SOURCE, source=self.file, detail=detail)
            return line

        return next_line

    def ask_pin(self, session: CliSession, label: str) -> str:
        """Ask for the PIN of a token.

        Raises:
            BAD_PASSPHRASE_SOURCE: If the source is unreadable, or readable by other users.
        """
        if self.file is not None:
            return self.make_prompt(session)(Path(label))
        return _prompt_secret(
            session, label, session.translate(N_("PIN of token {label}"), label=label)
        )


passphrase_options = bundle_options(
    "passphrases",
    PassphraseSource,
    click.option(
        "--passphrase-file",
        "file",
        type=click.Path(path_type=Path, dir_okay=False),
        help=N_("Read passphrases from a file readable by you only: one line, or one per key"),
    ),
)


def has_terminal() -> bool:
    """Return whether a secret can be typed at a terminal, which need not be stdin."""
    if sys.stdin.isatty():
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _prompt_passphrase(session: CliSession, path: Path, *, confirm: bool) -> str:
    repeat = session.translate(N_("Repeat the passphrase")) if confirm else False
    words = session.translate(N_("Passphrase of {name}"), name=path.name)
    return _prompt_secret(session, path.name, words, repeat)


def _prompt_secret(session: CliSession, name: str, words: str, repeat: str | bool = False) -> str:
    """Ask at the terminal only: without one, the input would be read from elsewhere.

    Raises:
        NO_TERMINAL_FOR_PASSPHRASE: If there is no terminal.
    """
    if not has_terminal():
        raise UpdaterError(NO_TERMINAL_FOR_PASSPHRASE, name=name)
    value: str = session.prompt(words, hide_input=True, confirmation_prompt=repeat)
    return value


def _read_lines(path: Path) -> list[str]:
    try:
        lines = _read_file(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        detail = describe_system_error(error)
        raise UpdaterError(BAD_PASSPHRASE_SOURCE, source=path, detail=detail) from error
    if not lines or not all(lines):
        raise UpdaterError(BAD_PASSPHRASE_SOURCE, source=path, detail="empty")
    return lines


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


def show_line(session: CliSession, text: LazyText | str, indent: str = "") -> None:
    """Add one line of output, without control characters and line breaks.

    A draft comes from another user, who must not be able to hide a line from the reader.
    """
    session.add_line(indent + _make_line(session, text))


def _make_line(session: CliSession, text: LazyText | str) -> str:
    message = text.render(session.language) if isinstance(text, LazyText) else text
    return strip_control_characters(message).replace("\n", " ")


def show_wrapped(session: CliSession, text: LazyText | str) -> None:
    """Add a sentence to the output, wrapped at the width of every terminal."""
    message = _make_line(session, text)
    indent = len(message) - len(message.lstrip(" "))
    first, *more = wrap_text(message.strip(" "), LINE_WIDTH - indent - HANGING_INDENT)
    session.add_line(" " * indent + first)
    for line in more:
        session.add_line(" " * (indent + HANGING_INDENT) + line)


def show_findings(session: CliSession, findings: Sequence[Finding]) -> ExitCode:
    """Add findings of ``lint`` to the output; return the exit code."""
    for line in format_findings(findings, session.language):
        session.add_line(line)
    blocked = any(finding.severity is Severity.CRITICAL for finding in findings)
    return ExitCode.BLOCKED if blocked else ExitCode.OK


def show_result(
    session: CliSession,
    data: Mapping[str, object],
    sentence: str,
    *lines: LazyText | str,
    **reported: object,
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
    signed = list(format_signatures(signatures))
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
            "critical": [text.render(session.language) for text in page.critical],
            "warnings": [
                text.render(session.language) for text in (*page.critical, *page.warnings)
            ],
            "info_count": page.info_count,
            "changes": changes,
            "releases": [dataclasses.asdict(release) for release in releases],
            "signatures": [dataclasses.asdict(item) for item in signatures],
        }
    )


def format_signatures(signatures: Sequence[SignatureStatus]) -> Iterator[LazyText]:
    """Yield lines on existing and missing signatures."""
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
        ledger_directory: Directory of the list of signed events.
        open_signer: Opens the private key once, asking for its passphrase or PIN.
    """

    public: Key
    name: str
    ledger_directory: Path
    open_signer: Callable[[], Signer]


@dataclass(frozen=True)
class TokenSlot:
    """A key on a token, besides the token's label.

    Attributes:
        key_id: Id of the key; by default that of the settings, then the signature slot.
        module: PKCS#11 driver; by default that of the settings, then an installed one.
    """

    key_id: int | None
    module: Path | None

    def make_token(self, label: str, known: SignerSettings) -> tokens.TokenKey:
        """Return the key on the token with this label.

        Raises:
            TOKEN_UNUSABLE: If there is no driver, or it may not be loaded.
        """
        key_id = self.key_id or known.key_id or SIGNATURE_SLOT
        return tokens.TokenKey(label, key_id, tokens.find_module(self.module or known.module))


token_options = bundle_options(
    "slot",
    TokenSlot,
    click.option(
        "--key-id",
        type=IntegerRange(1, 255),
        help=N_("Id of the key on the token (default: 2, the signature slot)"),
    ),
    click.option(
        "--module",
        type=click.Path(path_type=Path, dir_okay=False),
        help=N_("PKCS#11 driver of the token"),
    ),
)


@dataclass(frozen=True)
class KeyChoice:
    """A key to sign with: a file, or a token.

    Attributes:
        key: Private key file.
        token: Label of a token.
    """

    key: Path | None
    token: str | None

    def complete(self, key: Path | None, token: str | None) -> KeyChoice:
        """Return the choice; if none was made, that of the settings.

        Raises:
            CommandUsageError: If there is none, or both are given.
        """
        made = self if (self.key or self.token) else KeyChoice(key, token)
        if (made.key is None) == (made.token is None):
            raise CommandUsageError(GIVE_ONE, option="--key", other="--token")
        return made

    def load(
        self,
        session: CliSession,
        passphrases: PassphraseSource,
        slot: TokenSlot,
        known: SignerSettings,
        may_sign: Sequence[Key],
        beside: Path = Path(),
    ) -> SigningKey:
        """Load the key.

        Args:
            session: The session, for prompts.
            passphrases: Source of passphrase or PIN.
            slot: Key on the token.
            known: Settings of the signer.
            may_sign: Keys of which a token must have one.
            beside: Directory of the list of signed events, for a token.

        Raises:
            UpdaterError: If its public key file is invalid; or the token is missing, or has
                another key.
        """
        if self.key is not None:
            path, ask = self.key, passphrases.make_prompt(session)
            public = load_public_key(get_public_path(path))
            name = path.name.removesuffix(PRIVATE_SUFFIX)
            return SigningKey(public, name, path.parent, lambda: open_signer(path, ask))
        token = slot.make_token(self.token or "", known)
        held = tokens.find_token_key(token, may_sign)

        def open_token() -> Signer:
            return tokens.TokenSigner(token, held, passphrases.ask_pin(session, token.label))

        return SigningKey(held, get_key_owner(held), beside, open_token)


key_options = bundle_options(
    "choice",
    KeyChoice,
    click.option("--key", type=FILE_PATH, help=N_("Your private key, NAME.pem")),
    click.option("--token", help=N_("Label of the token with your key, instead of --key")),
)


@dataclass(frozen=True)
class OnlineKeyFiles:
    """Key files of the online roles."""

    snapshot_key: tuple[Path, ...]
    timestamp_key: tuple[Path, ...]

    def open(self, ask: Callable[[Path], str]) -> dict[str, list[Signer]]:
        """Open the keys.

        Args:
            ask: Asks for the passphrase of a key.
        """
        return {
            "snapshot": [open_signer(path, ask) for path in self.snapshot_key],
            "timestamp": [open_signer(path, ask) for path in self.timestamp_key],
        }


def online_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the options for the keys of the online roles."""
    text = N_("Private key of this role (repeatable)")
    options = (
        click.option(f"--{role}-key", type=FILE_PATH, multiple=True, required=required, help=text)
        for role in ("snapshot", "timestamp")
    )
    return bundle_options("online", OnlineKeyFiles, *options)
