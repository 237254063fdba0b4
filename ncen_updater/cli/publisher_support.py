"""What the publisher's commands share: options, passphrases, and showing results."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.errors import UpdaterError
from ncen_updater.findings import Finding
from ncen_updater.i18n import DEFAULT_LANGUAGE, N_, Text, language_from_environment, translate
from ncen_updater.publisher.errors import BadPassphraseSource

if TYPE_CHECKING:
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.status import ReleaseLine, RoleStatus, SignatureStatus

__all__ = [
    "common_options",
    "passphrase_options",
    "passphrases",
    "report_error",
    "show",
    "show_event",
    "show_findings",
    "show_roles",
    "show_signatures",
]

MAX_PASSPHRASE_BYTES = 10_000
JSON_KEY, LANGUAGE_KEY = "ncen.json", "ncen.language"


def _remember(key: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(context: click.Context, _: click.Parameter, value: Any) -> Any:  # noqa: ANN401
        context.meta[key] = value
        return value

    return callback


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--json`` and ``--lang``."""
    command = click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        callback=_remember(JSON_KEY),
        help="Write the result as JSON.",
    )(command)
    return click.option(
        "--lang",
        default=None,
        expose_value=False,
        callback=_remember(LANGUAGE_KEY),
        help="Language of the words, such as fr.",
    )(command)


def passphrase_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the places that a passphrase may come from; the command line is none of them."""
    command = click.option(
        "--passphrase-fd",
        type=int,
        default=None,
        help="Read passphrases from this descriptor: one line for all keys, or one a key.",
    )(command)
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        help="Read them from a file that only you may read.",
    )(command)


def passphrases(
    descriptor: int | None, file: Path | None, *, new: bool = False
) -> Callable[[Path], str]:
    """Return what asks for the passphrase of a key.

    Raises:
        BadPassphraseSource: If the place cannot be read, or can be read by others.
    """
    if descriptor is not None and file is not None:
        raise BadPassphraseSource(source=file, detail="give one place, not two")
    if descriptor is None and file is None:
        return lambda path: _prompt(path, confirm=new)
    source = str(file) if file is not None else f"descriptor {descriptor}"
    try:
        content = _read_file(file) if file is not None else _read_descriptor(descriptor or 0)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPassphraseSource(source=source, detail=str(error)) from error
    if not lines or not all(lines):
        raise BadPassphraseSource(source=source, detail="empty")
    remaining = iter(lines)

    def next_line(path: Path) -> str:
        if len(lines) == 1:
            return lines[0]
        try:
            return next(remaining)
        except StopIteration:
            raise BadPassphraseSource(source=source, detail=f"no line for {path}") from None

    return next_line


def _prompt(path: Path, *, confirm: bool) -> str:
    value: str = click.prompt(
        f"Passphrase of {path.name}", hide_input=True, confirmation_prompt=confirm, err=True
    )
    return value


def _read_file(path: Path) -> bytes:
    with path.open("rb") as stream:
        info = os.fstat(stream.fileno())
        if info.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or info.st_uid not in (0, os.geteuid()):
            raise BadPassphraseSource(source=path, detail="others may read it")
        return stream.read(MAX_PASSPHRASE_BYTES)


def _read_descriptor(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        return stream.read(MAX_PASSPHRASE_BYTES)


def _context() -> tuple[bool, str]:
    meta = click.get_current_context().meta
    language = meta.get(LANGUAGE_KEY) or language_from_environment()
    return bool(meta.get(JSON_KEY)), str(language)


def _emit_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=True))


def show(data: Mapping[str, object], sentence: str, *lines: str) -> None:
    """Show a result: as JSON, or as a sentence and lines below it."""
    as_json, language = _context()
    if as_json:
        _emit_json(data)
        return
    plain = {k: ", ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in data.items()}
    click.echo(Text(sentence, plain).render(language))
    for line in lines:
        click.echo(f"  {line}")


def show_event(event: Event) -> None:
    """Show what an event changes and who has signed."""
    from ncen_updater.publisher.describe import describe
    from ncen_updater.publisher.status import signature_status

    as_json, language = _context()
    lines, signatures = describe(event), signature_status(event)
    if as_json:
        changes = [
            {"role": line.role, "text": line.text.render(language), "figures": dict(line.figures)}
            for line in lines
        ]
        _emit_json(
            {
                "event": str(event.directory),
                "title": event.title,
                "digest": event.digest,
                "changes": changes,
                "signatures": [dataclasses.asdict(item) for item in signatures],
            }
        )
        return
    for line in lines:
        click.echo(f"{'' if line.heading else '  '}{line.text.render(language)}")
    _signature_lines(signatures, language)


def show_signatures(signatures: Sequence[SignatureStatus]) -> None:
    """Show who has signed and who is missing."""
    as_json, language = _context()
    if as_json:
        _emit_json({"signatures": [dataclasses.asdict(item) for item in signatures]})
    else:
        _signature_lines(signatures, language)


def _signature_lines(signatures: Sequence[SignatureStatus], language: str) -> None:
    complete = N_("{role} version {version}: signed by {names}; enough")
    lacking = N_("{role} version {version}: signed by {names}; {threshold} needed, open: {open}")
    for item in signatures:
        values = {
            "role": item.role,
            "version": item.version,
            "names": ", ".join(item.signed) or "-",
            "threshold": item.threshold,
            "open": ", ".join(item.missing) or "-",
        }
        click.echo(Text(complete if item.complete else lacking, values).render(language))


def show_findings(findings: Sequence[Finding]) -> None:
    """Show what lint found."""
    as_json, language = _context()
    if as_json:
        rows = [
            {
                "code": finding.code,
                "severity": finding.severity.value,
                "what": finding.what.render(language),
                "remedy": finding.remedy.render(language),
                "figures": dict(finding.figures),
            }
            for finding in findings
        ]
        _emit_json({"findings": rows})
        return
    for finding in findings:
        click.echo(f"{finding.code} {finding.severity.value}: {finding.what.render(language)}")
        click.echo(f"  {finding.remedy.render(language)}")
    if not findings:
        click.echo(translate(N_("Nothing found."), language))


def show_roles(roles: Sequence[RoleStatus], releases: Sequence[ReleaseLine]) -> None:
    """Show the roles and releases of a feed."""
    as_json, language = _context()
    if as_json:
        _emit_json(
            {
                "roles": [dataclasses.asdict(role) for role in roles],
                "releases": [dataclasses.asdict(release) for release in releases],
            }
        )
        return
    line = N_(
        "{role}: version {version}, {signed} of {threshold} signatures, {days_left} days left"
    )
    for role in roles:
        click.echo(Text(line, dataclasses.asdict(role)).render(language))
    offer = N_("{product} {version} ({channel})")
    stop = N_("{product} {version} ({channel}), required stop")
    gone = N_("{product} {version} ({channel}), withdrawn: {withdrawn}")
    for release in releases:
        template = gone if release.withdrawn else stop if release.required else offer
        click.echo(Text(template, dataclasses.asdict(release)).render(language))


def report_error(error: UpdaterError, arguments: Sequence[str]) -> int:
    """Show an error with its four facts and return its exit code."""
    language = language_from_environment()
    for position, argument in enumerate(arguments):
        if argument.startswith("--lang="):
            language = argument.partition("=")[2]
        elif argument == "--lang" and position + 1 < len(arguments):
            language = arguments[position + 1]
    state = error.state or Text(N_("Nothing was published; the feed is as it was."))
    facts = {
        "code": error.code,
        "what": error.what_text.render(language or DEFAULT_LANGUAGE),
        "detail": error.detail,
        "state": state.render(language),
        "remedy": error.remedy_text.render(language),
    }
    if "--json" in arguments:
        values = {key: str(value) for key, value in error.values.items()}
        _emit_json({"error": {**facts, "values": values, "exit_code": int(error.exit_code)}})
    click.echo(f"{facts['code']}: {facts['what']}", err=True)
    if error.detail:
        click.echo(f"  {error.detail}", err=True)
    click.echo(f"  {facts['state']}", err=True)
    click.echo(f"  {facts['remedy']}", err=True)
    return int(error.exit_code)
