"""Update what is generated from the programs: commands, exit codes and units of pages, the API.

``script/messages`` runs it after messages.py; with --check it changes nothing. Each generated part
is between ``<!-- generated: NAME -->`` and ``<!-- end -->``; the rest is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "script")]

from openapi import build_openapi_document  # noqa: E402

from ncen_updater.agent.cli.main import cli as agent  # noqa: E402
from ncen_updater.common.cli.lazy import (  # noqa: E402
    COMMON_EXIT_CODES,
    LazyGroup,
    make_global_options,
)
from ncen_updater.common.cli.session import CliSession  # noqa: E402
from ncen_updater.common.cli.usage import translate_metavars  # noqa: E402
from ncen_updater.common.i18n import translate  # noqa: E402
from ncen_updater.common.messages import ExitCode  # noqa: E402
from ncen_updater.publisher.cli.main import cli as publisher  # noqa: E402

DOCS = ROOT / "docs"
#: Description of the local API, which the service serves.
OPENAPI = ROOT / "ncen_updater/agent/service/api/openapi.json"
PROGRAMS: Mapping[str, LazyGroup] = {"ncen-updater": agent, "ncen-publisher": publisher}
GENERATED = re.compile(r"(?ms)^(<!-- generated: ([\w-]+) -->\n).*?^(<!-- end -->)$")
#: Texts of the generated parts, English to French.
FRENCH = {
    "code": "code",
    "option": "option",
    "meaning": "sens",
    "Exit codes:": "Codes de sortie :",
    "JSON:": "JSON :",
}
APPROVAL_KEYS = (
    "version", "binding", "plan", "rehearsal_status", "approvals", "missing", "void_reasons",
    "retry_at", "starts_at", "newest", "also_approved", "approved_but_unavailable",
    "consumed_approvals", "scheduled", "scheduled_by",
)  # fmt: skip
#: Document of ``--json`` by command: a schema of the local API, or its keys.
DOCUMENTS: Mapping[str, str | tuple[str, ...]] = {
    "ncen-updater status": "Status",
    "ncen-updater check": "CheckDone",
    "ncen-updater plan": "PlanFound",
    "ncen-updater rehearse": "RehearsalDone",
    "ncen-updater approve": APPROVAL_KEYS,
    "ncen-updater schedule": APPROVAL_KEYS,
    "ncen-updater dossier": "DossierFound",
    "ncen-updater upgrade": "ChangesDone",
    "ncen-updater watch": ("kind", "action", "reason", "status_read_at", "running"),
    "ncen-updater console": ("link", "port", "valid_s"),
    "ncen-updater confirm": "Confirmation",
    "ncen-updater rollback": "ChangesDone",
    "ncen-updater resume": "ChangesDone",
    "ncen-updater history": "History",
    "ncen-updater prune": ("dry_run", "changes", "slots"),
    "ncen-updater translations": ("version", "files"),
    "ncen-updater verify": "VerificationFound",
    "ncen-updater doctor": "DiagnosisFound",
    "ncen-updater support-bundle": (
        "parts", "shown", "leaks", "not_compared_with", "path", "bytes",
    ),
    "ncen-updater receipt": (
        "level", "receipt", "statement", "events", "destination", "fingerprint",
    ),
    "ncen-updater import": "ImportDone",
    "ncen-updater mirror": (
        "directory", "changed", "releases", "timestamp", "root", "expires_at", "downloaded_bytes",
        "removed_files",
    ),
    "ncen-updater hold": "Held",
    "ncen-updater unhold": "Unheld",
    "ncen-updater self-update": "SelfUpdateDone",
    "ncen-updater setup": ("state", "steps", "fingerprint", "found", "by_hand", "doctor"),
    "ncen-updater adopt": ("adopted", "product", "version", "corrects", "application", "checks"),
    **dict.fromkeys(
        (
            f"ncen-publisher {word}"
            for word in ("init", "rekey", "renew", "draft", "withdraw", "wave", "halt",
                         "resume-wave", "channel", "audience", "retire", "show")
        ),
        ("event", "title", "digest", "anchored", "changes", "releases", "sentences", "warnings",
         "critical", "info_count", "page", "signatures"),
    ),
    "ncen-publisher keys new": ("private", "public", "keyid", "fingerprint"),
    "ncen-publisher keys import-token": ("public", "keyid", "token", "key_id", "fingerprint"),
    "ncen-publisher keys show": ("files",),
    "ncen-publisher new": (
        "product", "version", "migrator", "databases", "written", "findings",
    ),
    "ncen-publisher try": ("product", "version", "before", "passed", "downtime_s", "stages"),
    "ncen-publisher lint": ("findings",),
    "ncen-publisher build": (
        "product", "version", "targets", "unpacked_bytes", "skipped_packs",
    ),
    "ncen-publisher sign": ("files",),
    "ncen-publisher merge": ("signatures",),
    "ncen-publisher publish": ("versions", "new_roles", "new_targets"),
    "ncen-publisher inspect": (
        "product", "version", "archive", "sbom", "components", "provenance",
    ),
    "ncen-publisher upload": ("place", "written", "unchanged", "timestamp"),
    "ncen-publisher refresh": ("versions", "new_roles", "new_targets"),
    "ncen-publisher export": (
        "file", "bytes", "releases", "agents", "expires_at", "usable_until",
    ),
    "ncen-publisher status": ("roles", "releases", "emergency_halts", "metadata", "waivers"),
    "ncen-publisher fleet import": (
        "stored", "known", "refused", "removed", "dropped", "codes", "refusals",
    ),
    "ncen-publisher fleet confirm": ("site", "fingerprint"),
    "ncen-publisher fleet forget": ("site", "count", "files"),
    "ncen-publisher fleet board": ("path", "sites", "attention"),
    "ncen-publisher monitor": (
        "url", "exit_code", "roles", "targets", "bytes", "findings", "metadata", "added",
        "emergency_halts",
    ),
}  # fmt: skip


def main(arguments: list[str]) -> int:
    """Check or write all pages and the description of the API."""
    if arguments not in ([], ["--check"]):
        sys.stdout.write(__doc__ or "")
        return 2
    late = 0
    for page in (*sorted(DOCS.rglob("*.md")), OPENAPI):
        before = page.read_text("utf-8")
        now = format_openapi() if page == OPENAPI else renew(page, before)
        if now == before:
            continue
        late += 1
        if arguments:
            sys.stdout.write(f"out of date: {page.relative_to(ROOT)}\n")
        else:
            page.write_text(now, "utf-8")
    return 1 if arguments and late else 0


def renew(page: Path, text: str) -> str:
    """Return a page with its generated parts updated."""
    language = "fr" if "fr" in page.relative_to(DOCS).parts else "en"

    def part(found: re.Match[str]) -> str:
        lines = "\n".join(PARTS[found[2]](language)).strip()
        if found[2] == "features":
            lines = keep_counts(found[0], lines)
        return f"{found[1]}\n{lines}\n\n{found[3]}"

    return GENERATED.sub(part, text)


def format_openapi() -> str:
    """Return the description of the API, with a line for each path and schema."""
    text = json.dumps(build_openapi_document())
    return re.sub(r', ("(?:/v1/[^"]*|[A-Z][A-Za-z]+)": \{")', r",\n\1", text) + "\n"


def _label(text: str, language: str) -> str:
    return FRENCH[text] if language == "fr" else text


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def list_exit_codes(language: str) -> Iterator[str]:
    """Yield every exit code with its meaning in each program."""
    yield f"| {_label('code', language)} | `ncen-updater` | `ncen-publisher` |"
    yield "|---|---|---|"
    for code in ExitCode:
        meanings = (
            translate(
                group.command_help.meanings.get(code, "") if group.command_help else "", language
            )
            for group in PROGRAMS.values()
        )
        yield f"| {int(code)} | {' | '.join(map(_cell, meanings))} |"


def walk_commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with its full name."""
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None, word  # noqa: S101
        if isinstance(command, click.Group):
            yield from walk_commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def describe_commands(program: str, language: str) -> Iterator[str]:
    """Yield the commands of a program: purpose, options, exit codes, document."""
    group = PROGRAMS[program]
    assert group.command_help is not None  # noqa: S101
    commands = dict(walk_commands(group, program))
    for heading, words in group.command_help.groups.items():
        yield f"### {translate(heading, language).strip()}"
        yield ""
        for word in words:
            for name, command in commands.items():
                if name == f"{program} {word}" or name.startswith(f"{program} {word} "):
                    yield from _describe(program, name, command, language)


def _describe(program: str, name: str, command: click.Command, language: str) -> Iterator[str]:
    session = CliSession(program, language=language)
    context = click.Context(command, info_name=name, obj=session)
    pieces = translate_metavars(" ".join(command.collect_usage_pieces(context)), language)
    yield from (f"#### {name}", "", translate(command.help or "", language), "")
    yield from (f"    {name} {pieces}", "")
    rows = list(_options(command, context, language))
    if rows:
        yield f"| {_label('option', language)} | {_label('meaning', language)} |"
        yield from ("|---|---|", *rows, "")
    guide = PROGRAMS[program].command_help
    word = name.split()[1]
    if guide is not None and word in guide.exit_codes:
        codes = sorted({*COMMON_EXIT_CODES, *guide.exit_codes[word]})
        yield f"{_label('Exit codes:', language)} {', '.join(map(str, codes))}."
        yield ""
    keys = list_keys(name)
    if keys:
        yield f"{_label('JSON:', language)} {', '.join(f'`{key}`' for key in keys)}."
        yield ""


def _options(command: click.Command, context: click.Context, language: str) -> Iterator[str]:
    common = {option.opts[0] for option in make_global_options()} | {"--help"}
    for option in command.get_params(context):
        record = option.get_help_record(context)
        if not isinstance(option, click.Option) or record is None:
            continue
        if option.opts[0] not in common:
            words = option.help or ""
            said = record[1].replace(words, translate(words, language))
            said = said.replace("[required]", f"[{translate('required', language)}]")
            names = translate_metavars(record[0], language)
            yield f"| `{_cell(names)}` | {_cell(said)} |"


def list_keys(name: str) -> tuple[str, ...]:
    """Return the top-level keys of a command's ``--json`` document."""
    keys = DOCUMENTS.get(name, ())
    if isinstance(keys, str):
        schemas = build_openapi_document()["components"]["schemas"]
        keys = tuple(key for key in schemas[keys]["properties"] if key != "words")
    return keys


#: Exposure of each unit, as computed by systemd-analyze of systemd 257.
EXPOSURES = {
    "ncen-updater.service": 1.2,
    "ncen-updater-apply@.service": 2.3,
    "ncen-updater-console.service": 0.2,
    "ncen-updater-fetch@.service": 1.1,
    "ncen-updater-login@.service": 1.2,
    "ncen-updater-renew@.service": 2.3,
    "ncen-updater-resume.service": 2.3,
    "ncen-updater-send@.service": 1.4,
    "ncen-publisher-fleet.service": 0.2,
    "ncen-publisher-monitor.service": 1.1,
    "ncen-publisher-refresh.service": 0.2,
    "ncen-publisher-renew.service": 0.2,
}


def list_units(language: str) -> Iterator[str]:
    """Yield the table of each unit's write access and network access, from the unit files."""
    del language
    yield "| unit | user | capabilities | writes | network | exposure |"
    yield "|---|---|---|---|---|---|"
    for name, exposure in EXPOSURES.items():
        [path] = (ROOT / "packaging").glob(f"*/{name}")
        yield f"| {' | '.join(describe_unit(path))} | {exposure} |"


def describe_unit(path: Path) -> list[str]:
    """Return name, user, capabilities, writable paths and network access of a unit."""
    lines = [line.partition("=") for line in path.read_text("utf-8").splitlines() if "=" in line]
    words = {key: [word for name, _, value in lines if name == key for word in value.split()]
             for key in ("User", "DynamicUser", "CapabilityBoundingSet", "ReadWritePaths",
                         "StateDirectory", "PrivateNetwork", "IPAddressDeny", "IPAddressAllow",
                         "RestrictAddressFamilies")}  # fmt: skip
    places = [word.removeprefix("-") for word in words["ReadWritePaths"]]
    places += [f"/var/lib/{word}" for word in words["StateDirectory"]]
    capabilities = [word.removeprefix("CAP_") for word in words["CapabilityBoundingSet"]]
    denied, allowed = words["IPAddressDeny"], " ".join(words["IPAddressAllow"])
    if words["PrivateNetwork"] == ["yes"] or "AF_INET" not in words["RestrictAddressFamilies"]:
        network = "none"
    elif denied == ["any"]:
        network = f"{allowed} only"
    else:
        network = "all" + (f" except {' '.join(denied)}" if denied else "")
        network += f"; but {allowed}" if allowed else ""
    user = "dynamic" if words["DynamicUser"] == ["yes"] else "root"
    return [
        f"`{path.name}`", " ".join(words["User"]) or user, ", ".join(capabilities) or "none",
        " ".join(f"`{place}`" for place in places) or "nothing", network,
    ]  # fmt: skip


#: Feature, its users, and its paths in the package.
FEATURES: Sequence[tuple[str, str, tuple[str, ...]]] = (
    (
        "Upgrade and rollback by copies, steps, recovery",
        "every site",
        ("agent/engine/*.py", "agent/engine/steps/"),
    ),
    ("Journal and audit log", "every site, auditors", ("agent/storage/journal/",)),
    ("PostgreSQL", "sites of nCEN", ("agent/adapters/databases/postgresql/",)),
    (
        "SQLite",
        "small sites, integrators, the demonstration",
        ("agent/adapters/databases/sqlite/",),
    ),
    (
        "Migrations by SQL files or a program",
        "integrators",
        ("agent/adapters/databases/migrations/",),
    ),
    ("Control and health of the application", "every site", ("agent/adapters/application/",)),
    ("Signed feed, downloads, trust state", "every site", ("feed/*.py",)),
    ("Feed reader with a user of its own", "security teams", ("agent/adapters/feed_reader/",)),
    (
        "Delta packs",
        "sites with slow networks",
        ("formats/delta/", "publisher/build/delta_packs.py"),
    ),
    (
        "Offline bundles",
        "sites without a network",
        (
            "feed/bundle_fetcher.py",
            "feed/bundle_import.py",
            "feed/import_store.py",
            "formats/bundle_file.py",
            "agent/storage/inbox.py",
        ),
    ),
    ("Mirror of the feed", "countries with several sites", ("feed/mirror.py",)),
    ("Rehearsal and predicted downtime", "operators, approvers", ("agent/engine/rehearsal/",)),
    ("Approvals", "directors, approvers", ("agent/engine/approvals/",)),
    ("Dossier", "directors", ("agent/reports/dossier/",)),
    ("Preflight", "operators", ("agent/engine/preflight/",)),
    ("Site files", "sites with photographs and attachments", ("agent/storage/site_files/",)),
    (
        "Local overlay: texts and settings",
        "countries with a language or settings of their own",
        ("agent/storage/overlay/", "formats/texts/"),
    ),
    (
        "Service and maintenance windows",
        "sites where nobody works at night",
        ("agent/service/*.py", "agent/policy/"),
    ),
    ("Local API", "the console, integrators", ("agent/service/api/",)),
    ("Notifications and metrics", "operators, monitoring teams", ("agent/service/notifications/",)),
    ("Web console", "people who decide in a browser", ("console/",)),
    ("Console behind a password", "people without SSH", ("login/",)),
    ("Self-update and failsafe", "every site", ("agent/self_update/", "agent/failsafe.py")),
    ("Setup of a site, with undo", "administrators of sites", ("agent/setup/",)),
    (
        "doctor, verify, support bundle",
        "operators, the Secretariat",
        ("agent/reports/diagnostics/",),
    ),
    ("Signing by several signers", "the Secretariat", ("publisher/signing/",)),
    ("Signers' page", "signers", ("publisher/review/",)),
    ("lint", "drafters, integrators", ("publisher/lint/",)),
    (
        "Reproducible builds, SBOM, provenance",
        "the Secretariat, auditors",
        ("publisher/build/*.py",),
    ),
    ("Manifest from an existing application, local trial", "integrators", ("publisher/new/",)),
    (
        "Receipts and the board",
        "the Secretariat, regional leaders, countries",
        ("publisher/fleet/", "formats/receipt.py", "agent/reports/receipt.py"),
    ),
    ("Publication, bundles, monitoring of the feed", "the Secretariat", ("publisher/distribute/",)),
    ("Messages in two languages", "every site", ("common/i18n.py", "common/cli/")),
)
#: A published count is updated only if it is wrong by more than this fraction.
TOLERANCE = 0.1


def list_features(language: str) -> Iterator[str]:
    """Yield each feature with its users, its paths and its lines of code."""
    del language
    yield "| feature | who needs it | where in `ncen_updater/` | lines of code |"
    yield "|---|---|---|---|"
    for name, who, places in FEATURES:
        where = ", ".join(f"`{place.removesuffix('*.py')}`" for place in places)
        yield f"| {name} | {who} | {where} | {count_code_lines(places)} |"


def count_code_lines(places: Sequence[str]) -> int:
    """Count lines of code below paths, rounded to tens; raise if a path has none."""
    total = 0
    for place in places:
        pattern = f"{place}**/*.py" if place.endswith("/") else place
        files = sorted((ROOT / "ncen_updater").glob(pattern))
        assert files, place  # noqa: S101
        total += sum(_count_lines(file.read_text("utf-8")) for file in files)
    return round(total, -1)


def _count_lines(text: str) -> int:
    """Count lines that contain more than a comment or docstring."""
    without_docstrings = re.sub(r'(?ms)^ *r?"""(?!$).*?"""$', "", text)
    return sum(bool(re.match(r" *[^ #\n]", line)) for line in without_docstrings.split("\n"))


def keep_counts(before: str, now: str) -> str:
    """Keep published counts within the tolerance, so that few changes of code change the page."""
    row = re.compile(r"(?m)^(\|.*\| )(\d+) \|$")
    known = {found[1]: int(found[2]) for found in row.finditer(before)}

    def choose(found: re.Match[str]) -> str:
        old, new = known.get(found[1], 0), int(found[2])
        return f"{found[1]}{old if abs(old - new) <= new * TOLERANCE else new} |"

    return row.sub(choose, now)


PARTS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "features": list_features,
    "units": list_units,
    "exit-codes": list_exit_codes,
    "ncen-updater": lambda language: describe_commands("ncen-updater", language),
    "ncen-publisher": lambda language: describe_commands("ncen-publisher", language),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
