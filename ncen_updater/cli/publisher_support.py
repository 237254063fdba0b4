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

from ncen_updater.cli.render import clean, finding_document, finding_lines
from ncen_updater.findings import Finding
from ncen_updater.i18n import N_, Text, translate
from ncen_updater.publisher.errors import BadPassphraseSource

if TYPE_CHECKING:
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.status import ReleaseLine, RoleStatus, SignatureStatus

__all__ = [
    "common_options",
    "passphrase_options",
    "passphrases",
    "show",
    "show_event",
    "show_findings",
    "show_roles",
    "show_signatures",
]

MAX_PASSPHRASE_BYTES = 10_000


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command has; they are read before the command line is parsed."""
    for name, kind, words in (
        ("--verbose", True, "Show the log, and traces of mistakes."),
        ("--lang", False, "Language of the words: en or fr."),
        ("--json", True, "Write the result as JSON."),
    ):
        command = click.option(name, is_flag=kind, expose_value=False, help=words)(command)
    return command


def passphrase_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
    session = click.get_current_context().obj
    return session.as_json, session.language


def _emit_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, sort_keys=True))


def _line(text: str) -> None:
    # A draft comes from somebody else: it must not be able to hide a line from its reader.
    click.echo(clean(text).replace("\n", " "))


def show(data: Mapping[str, object], sentence: str, *lines: str) -> None:
    """Show a result: as JSON, or as a sentence and lines below it."""
    as_json, language = _context()
    if as_json:
        _emit_json(data)
        return
    plain = {k: ", ".join(map(str, v)) if isinstance(v, tuple) else v for k, v in data.items()}
    _line(Text(sentence, plain).render(language))
    for line in lines:
        _line(f"  {line}")


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
        _line(f"{'' if line.heading else '  '}{line.text.render(language)}")
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
        _line(Text(complete if item.complete else lacking, values).render(language))


def show_findings(findings: Sequence[Finding]) -> None:
    """Show what lint found."""
    as_json, language = _context()
    if as_json:
        _emit_json({"findings": [finding_document(finding, language) for finding in findings]})
        return
    for line in finding_lines(findings, language):
        click.echo(line)
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
        _line(Text(line, dataclasses.asdict(role)).render(language))
    offer = N_("{product} {version} ({channel})")
    stop = N_("{product} {version} ({channel}), required stop")
    gone = N_("{product} {version} ({channel}), withdrawn: {withdrawn}")
    for release in releases:
        template = gone if release.withdrawn else stop if release.required else offer
        _line(Text(template, dataclasses.asdict(release)).render(language))
