"""Update catalogues and docs/reference/messages.md from the texts in the program.

``script/messages`` runs it: it rewrites the .po (translations are preserved), the .mo,
messages.json and messages.md in both languages; with --check it changes nothing.

A new text is added to the French .po with an empty msgstr: translate it and run this again. Texts
are extracted from the source, without running it, and from page templates (``say("...")``).
Catalogues are read and written with polib.

The English .po contains the texts with plural forms: msgctxt is the placeholder with the number,
msgid and msgid_plural are the text of the source, msgstr[0] is its singular. Add a new singular
there by hand; the French .po then gets empty forms to translate.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

from jinja2 import Environment, nodes

if TYPE_CHECKING:
    import polib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ncen_updater"
PACKAGES = (PACKAGE, ROOT / "demo")
PO = PACKAGE / "locale/fr/LC_MESSAGES/ncen_updater.po"
# Texts of click; maintained by hand.
CLICK = PO.with_name("click.po")
# Texts with plural forms, with their English singular.
ENGLISH = PACKAGE / "locale/en/LC_MESSAGES/ncen_updater.po"
TABLES = {
    "en": ROOT / "docs/reference/messages.md",
    "fr": ROOT / "docs/fr/reference/messages.md",
}
# All errors; compiled to the .json that the program reads.
MESSAGES = PACKAGE / "common/messages.toml"
# ``Plural-Forms`` of each language, for gettext.
RULES = {"en": "nplurals=2; plural=(n != 1);", "fr": "nplurals=2; plural=(n > 1);"}
HEADER = {
    "Project-Id-Version": "ncen-updater",
    "MIME-Version": "1.0",
    "Content-Type": "text/plain; charset=UTF-8",
    "Content-Transfer-Encoding": "8bit",
}
# Enumerations whose values are displayed; the catalogue contains each value as a text.
SHOWN_ENUMS = {
    "ChangeKind",
    "ChangeState",
    "StepState",
    "RecoveryAction",
    "Urgency",
    "MigrationDirection",
}
MARKS = {"N_", "LazyText"}
# Function that marks texts in page templates.
SAY = "say"
BASE, MESSAGE = "UNNAMED", "ErrorMessage"
# Prefix of the name of an error class whose title a finding repeats.
CAUGHT = "caught: "
# A placeholder before a plural noun: the text needs plural forms.
COUNTS = re.compile(r"\{(\w+)\} (?:(?:more|other|old|signed|open) )?(?:[a-z]+ )?([a-z]+s|people)\b")
# Names of placeholders whose number may be one.
COUNTED = {
    "after", "age", "before", "count", "days", "days_left", "files", "hours", "kept", "lost",
    "max_length", "min_length", "missing", "parts", "preserved", "quarantined", "removed",
    "seconds", "signed", "threshold", "times", "total", "wheels", "without",
}  # fmt: skip
# Arguments and variables that contain plain strings: values of other texts, or arguments of Python
# exceptions. Such a string is translated when it is displayed as a value.
BARE = {"detail", "error", "problem", "reason", "said", "why"}
NOT_SHOWN = {"AssertionError", "NotImplementedError", "TypeError"}
TWO_WORDS = re.compile(r"[A-Za-z]{2,}[^A-Za-z{}]* [^A-Za-z{}]*[a-z]{2,}")
# Exceptions from COUNTS, with the reason.
UNCOUNTED: dict[str, str] = {}
# Findings of preflight are created with a number, mostly by the functions in NUMBERED.
CODE = re.compile(r"NU-\d{4}")
NUMBERED = {"make_advisory", "make_info", "make_blocker"}
NUMBERS = (range(6301, 6400),)


@dataclass(frozen=True)
class Forms:
    """Plural forms of a text in one language.

    Attributes:
        place: The placeholder with the number.
        forms: One text per plural form, in the order of the language's rule.
    """

    place: str
    forms: tuple[str, ...]


#: Texts of a catalogue.
Said = Mapping[str, str | Forms]


@dataclass(frozen=True)
class Row:
    """One error of the table.

    Attributes:
        code: Its code.
        name: Name of the message, or of its error class.
        title: Template of the title.
        remedy: Template of the remedy.
        exit_code: Name of the exit code.
        state: Template of the resulting state; empty if it is read from the site.
    """

    code: str
    name: str
    title: str
    remedy: str
    exit_code: str
    state: str


@dataclass
class Source:
    """All extracted data.

    Attributes:
        templates: Each text, with the files that contain it.
        errors: All error messages.
        says: Maps an error class to its message.
        findings: Maps the code of a finding to files and first texts.
        exit_codes: Maps the name of an exit code to its number.
        misfits: Texts of page templates that lack values for their placeholders.
    """

    templates: dict[str, set[str]] = field(default_factory=dict)
    errors: list[Row] = field(default_factory=list)
    says: dict[str, str] = field(default_factory=dict)
    findings: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    exit_codes: dict[str, int] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)

    def add(self, template: str, where: str) -> None:
        """Add a text if it contains words."""
        if needs_words(template):
            self.templates.setdefault(template, set()).add(where)


def needs_words(template: str) -> bool:
    """Return whether words, or punctuation that French sets apart, remain without placeholders."""
    return any(
        any(c.isalpha() for c in literal) or ": " in literal or "; " in literal
        for literal, *_ in Formatter().parse(template)
    )


def _string(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in MARKS
        and node.args
    ):
        return _string(node.args[0])
    return None


def _message(name: str, value: ast.expr | None, found: Source) -> None:
    """Add the error of ``NAME = Message(code, title, remedy, exit code, state=state)``."""
    if (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == MESSAGE
    ):
        code, title, remedy = (_string(argument) or "" for argument in value.args[:3])
        last = value.args[3] if len(value.args) > 3 else None
        ends = last.attr if isinstance(last, ast.Attribute) else "ERROR"
        named = {keyword.arg: _string(keyword.value) for keyword in value.keywords}
        found.errors.append(Row(code, name, title, remedy, ends, named.get("state") or ""))


def _rows(path: Path, where: str, found: Source) -> None:
    """Add all errors and findings of a table."""
    for name, row in tomllib.loads(path.read_text("utf-8")).items():
        said = {key: row.get(key, "") for key in ("title", "remedy", "state")}
        for text in filter(None, said.values()):
            found.add(text, where)
        if "severity" in row:
            found.findings.setdefault(row["code"], []).append((where, row["title"]))
            continue
        found.errors.append(Row(row["code"], name, exit_code=row.get("exit_code", "ERROR"), **said))


def compiled_messages() -> str:
    """Return the table of errors in the form that the program reads."""
    rows = tomllib.loads(MESSAGES.read_text("utf-8"))
    lines = [
        f"{json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in rows.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _class(node: ast.ClassDef, where: str, found: Source) -> None:
    """Add the texts of an error class or of a displayed enumeration."""
    values = {
        line.targets[0].id: line.value
        for line in node.body
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
    }
    message = values.get("message")
    if message is not None:
        found.says[node.name] = message.id if isinstance(message, ast.Name) else node.name
        _message(node.name, message, found)
    if node.name == "ExitCode":
        found.exit_codes = {
            name: value.value
            for name, value in values.items()
            if isinstance(value, ast.Constant) and isinstance(value.value, int)
        }
    if node.name in SHOWN_ENUMS:
        for value in values.values():
            if (word := _string(value)) is not None:
                found.templates.setdefault(word, set()).add(where)


class Words:
    """Texts of a module's variables, and error classes of its exception handlers.

    Args:
        tree: The module.
    """

    def __init__(self, tree: ast.Module) -> None:
        nodes = sorted(
            (n for n in ast.walk(tree) if isinstance(n, ast.Assign | ast.ExceptHandler)),
            key=lambda n: n.lineno,
        )
        self._said: list[tuple[int, str, str]] = []
        for node in nodes:
            if isinstance(node, ast.ExceptHandler):
                if node.name and isinstance(node.type, ast.Name):
                    self._said.append((node.lineno, node.name, f"{CAUGHT}{node.type.id}"))
            elif isinstance(node.targets[0], ast.Name):
                self._said.append((node.lineno, node.targets[0].id, _string(node.value) or ""))

    def of(self, node: ast.expr) -> str:
        """Return the text of a variable, or of the title of an error class; "" for others."""
        name = node.value if isinstance(node, ast.Attribute) and node.attr == "title_text" else node
        if not isinstance(name, ast.Name):
            return ""
        said = [text for line, known, text in self._said if known == name.id and line < node.lineno]
        return said[-1] if said else ""


def _first_text(nodes: list[ast.expr], words: Words) -> str:
    """Return the first text in some expressions, in source order."""
    for node in nodes:
        named = words.of(node)
        if named:
            return named
        calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
        for call in sorted(calls, key=lambda n: (n.lineno, n.col_offset)):
            text = _string(call) or (words.of(call.args[0]) if call.args else "")
            if text:
                return text
    return ""


def _bare(node: ast.expr | None) -> str | None:
    """Return a text without placeholders that is passed on as a plain string."""
    said = _string(node) if isinstance(node, ast.Constant) else None
    return said if said and "{" not in said and TWO_WORDS.search(said) else None


def _bares(node: ast.AST) -> Iterator[str]:
    """Yield the plain strings that a node passes on."""
    found: list[ast.expr | None] = []
    if isinstance(node, ast.keyword) and node.arg in BARE:
        found.append(node.value)
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        ours = ast.unparse(node.exc.func) in NOT_SHOWN
        found += [] if ours else node.exc.args[:1]
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        found += [node.value] if node.targets[0].id in BARE else []
    for value in found:
        chosen = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
        yield from filter(None, map(_bare, chosen))


def _call(
    node: ast.Call, where: str, found: Source, words: Words, constants: Mapping[str, str]
) -> None:
    text = _string(node)
    if text is not None:
        found.add(text, where)
    if isinstance(node.func, ast.Name) and node.func.id == MESSAGE:
        return  # the code of an error, not of a finding
    parts = [*node.args, *(keyword.value for keyword in node.keywords)]
    numbered = isinstance(node.func, ast.Name) and node.func.id in NUMBERED
    for part in parts:
        code = _code(part, constants, numbered=numbered)
        if code is not None:
            row = (where, _first_text(parts, words))
            if row not in found.findings.setdefault(code, []):
                found.findings[code].append(row)


def _code(node: ast.expr, constants: Mapping[str, str], *, numbered: bool) -> str | None:
    """Return the code of a finding: a string, a constant, or a number."""
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, str) and CODE.fullmatch(value):
        return value
    if type(value) is not int or value not in range(1000, 10_000):
        return None
    return f"NU-{value}" if numbered or any(value in numbers for numbers in NUMBERS) else None


def _constants(tree: ast.Module) -> dict[str, str]:
    """Map the module's constants to the codes of findings that they contain."""
    found = {}
    for line in tree.body:
        if isinstance(line, ast.AnnAssign | ast.Assign) and isinstance(line.value, ast.Constant):
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            value = line.value.value
            if isinstance(target, ast.Name) and isinstance(value, str) and CODE.fullmatch(value):
                found[target.id] = value
    return found


def read_source(*packages: Path) -> Source:
    """Extract texts, errors and codes of findings from the program and the demo."""
    found = Source()
    places = [(p, package) for package in packages or PACKAGES for p in package.rglob("*.py")]
    for path, package in sorted(places):
        where = str(path.relative_to(package.parent))
        tree = ast.parse(path.read_text("utf-8"), where)
        words, constants = Words(tree), _constants(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                _call(node, where, found, words, constants)
            elif isinstance(node, ast.ClassDef):
                _class(node, where, found)
            for bare in _bares(node):
                found.add(bare, where)
        for line in tree.body:
            if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
                _message(line.targets[0].id, line.value, found)
    for package in packages or PACKAGES:
        for path in package.rglob("messages.toml"):
            _rows(path, str(path.relative_to(package.parent)), found)
        for path in sorted(package.rglob("templates/*.html")):
            _page(path.read_text("utf-8"), str(path.relative_to(package.parent)), found)
    return found


def _page(content: str, where: str, found: Source) -> None:
    """Add the texts of a page template."""
    for call in Environment().parse(content).find_all(nodes.Call):  # noqa: S701 - never rendered
        if isinstance(call.node, nodes.Name) and call.node.name == SAY:
            given = {f"{item.key}!None:" for item in call.kwargs}
            for text in _said(call.args[0]):
                found.add(text, where)
                if places(text) != given:
                    found.misfits.append(f"{where}: other values than places: {text}")


def _said(node: nodes.Expr) -> Iterator[str]:
    """Yield the alternative texts of an expression."""
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, nodes.CondExpr):
        yield from _said(node.expr1)
        if node.expr2 is not None:
            yield from _said(node.expr2)


# ---- errors and findings ---------------------------------------------------------------------


def errors(found: Source) -> list[Row]:
    """Return all errors with a code, in the order of the codes."""
    return sorted(found.errors, key=lambda row: row.code)


def duplicates(found: Source) -> list[str]:
    """Return codes with two meanings.

    The base class and UNEXPECTED share one on purpose. A finding may have the code of an error with
    the same meaning, but two files must not use one code for findings.
    """
    seen: dict[str, Row] = {}
    bad = []
    for row in errors(found):
        if row.code in seen and BASE not in (row.name, seen[row.code].name):
            bad.append(f"{row.code}: {seen[row.code].name} and {row.name}")
        seen[row.code] = row
    for code, uses in found.findings.items():
        files = sorted({where for where, _ in uses})
        if len(files) > 1:
            bad.append(f"{code}: findings in {' and '.join(files)}")
    return bad


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


#: Texts around the tables of messages, by language.
HEADINGS = {
    "en": """\
# Messages

Written by `script/messages` from the source; do not edit this page by hand. `{fields}` are
filled when a message is shown.

The first digit says where a message comes from: 1 command line and configuration, 2 trust and the
feed, 3 releases, transfer and slots, 4 databases and migrations, 5 the application, 6 the upgrade,
7 the publisher, 8 the stand-in, 9 the service and the agent itself.

## Errors

A command ends with the exit code of its error. If a change or rehearsal fails, its error has the
code of the cause, as in `history`, but title and exit code of NU-6011, NU-6026, NU-6028 or NU-6032.
If the state is `-`, the program prints the state that it finds.

| code | title | state | what to do | exit code |
|---|---|---|---|---|""",
    "fr": """\
# Messages

Page écrite par `script/messages` à partir du code ; ne la modifiez pas à la main. Les `{variables}`
sont remplies quand un message est affiché.

Le premier chiffre indique l'origine d'un message : 1 ligne de commande et configuration, 2
confiance et dépôt, 3 versions, transfert et versions installées, 4 bases de données et
migrations, 5 application, 6 mise à niveau, 7 publication, 8 application de démonstration, 9
service et agent.

## Erreurs

Une commande se termine avec le code de sortie de son erreur. Si un changement ou un essai échoue,
l'erreur porte le code de la cause, comme dans `history`, mais le titre et le code de sortie de
NU-6011, NU-6026, NU-6028 ou NU-6032. Si l'état est `-`, le programme affiche l'état qu'il constate.

| code | titre | état | à faire | code de sortie |
|---|---|---|---|---|""",
}
FINDINGS = {
    "en": """\

## Findings

`plan`, `doctor`, `verify` and `ncen-publisher lint` list findings. A blocking finding makes `plan`
and `doctor` exit with 3, and `verify` with 12.

| code | finding |
|---|---|""",
    "fr": """\

## Constats

`plan`, `doctor`, `verify` et `ncen-publisher lint` énumèrent des constats. Avec un constat
bloquant, le code de sortie de `plan` et de `doctor` est 3, celui de `verify` est 12.

| code | constat |
|---|---|""",
}


def render_table(found: Source, language: str = "en") -> str:
    """Return the page of all messages in a language."""
    french = read_po() if language == "fr" else {}

    def say(template: str) -> str:
        said = french.get(template, "")
        return _cell((said if isinstance(said, str) else said.forms[-1]) or template)

    lines = [HEADINGS[language]]
    for row in errors(found):
        if row.name != BASE:
            texts = " | ".join(map(say, (row.title, row.state or "-", row.remedy)))
            lines.append(f"| {row.code} | {texts} | {found.exit_codes[row.exit_code]} |")
    lines.append(FINDINGS[language])
    rows = errors(found)
    known = {row.code for row in rows}
    said = {row.name: row.title for row in rows}
    passed_on = {f"{CAUGHT}{kind}": said[name] for kind, name in found.says.items()}
    for code, uses in sorted(found.findings.items()):
        words = [passed_on.get(text, text) for _, text in uses if text]
        if code not in known:
            lines.append(f"| {code} | {'; '.join(map(say, words))} |")
    return "\n".join(lines) + "\n"


# ---- the catalogue ---------------------------------------------------------------------------


def _catalogue(
    translations: Said, found: Source | None = None, language: str = "fr"
) -> polib.POFile:
    # The agent's Python, which generates the manual pages, has no polib.
    import polib

    # Do not wrap lines, so that a changed text is one line in a diff.
    made = polib.POFile(wrapwidth=0)
    made.header = "Rewritten by script/messages."
    made.metadata = HEADER | {"Language": language, "Plural-Forms": RULES[language]}
    for template, said in translations.items():
        files = sorted(found.templates[template])[:2] if found else ()
        row = polib.POEntry(msgid=template, occurrences=[(file, "") for file in files])
        if isinstance(said, Forms):
            row.msgctxt, row.msgid_plural = said.place, template
            row.msgstr_plural = dict(enumerate(said.forms))
        else:
            row.msgstr = said
        made.append(row)
    return made


def read_po(path: Path = PO) -> dict[str, str | Forms]:
    """Return the translations of a .po without fuzzy ones; {} if the file is missing."""
    import polib

    if not path.exists():
        return {}
    entries = polib.pofile(str(path), encoding="utf-8")
    return {row.msgid: _said_by(row) for row in entries if not row.obsolete}


def _said_by(row: polib.POEntry) -> str | Forms:
    if not row.msgid_plural:
        return "" if row.fuzzy else str(row.msgstr)
    forms = [str(said) for _, said in sorted(row.msgstr_plural.items())]
    return Forms(row.msgctxt or "", tuple("" if row.fuzzy else said for said in forms))


def in_step(found: Source, said: Said, counting: Said) -> dict[str, str | Forms]:
    """Return the required content of a catalogue with two forms; new texts are empty."""
    made: dict[str, str | Forms] = {}
    for template in found.templates:
        now, counts = said.get(template, ""), counting.get(template)
        if not isinstance(counts, Forms):
            made[template] = now if isinstance(now, str) else ""
        elif isinstance(now, Forms):
            made[template] = Forms(counts.place, now.forms)
        else:
            made[template] = Forms(counts.place, ("", now))
    return made


def render_po(found: Source, translations: Said, language: str = "fr") -> str:
    """Render the .po with all texts in the order of the file, without obsolete ones."""
    rows = sorted(found.templates.items(), key=lambda row: (min(row[1]), row[0]))
    chosen = {key: translations[key] for key, _ in rows if key in translations}
    return f"{_catalogue(chosen, found, language)}"


def render_mo(translations: Said, language: str = "fr") -> bytes:
    """Compile the catalogue for gettext; deterministic."""
    return bytes(_catalogue(translations, language=language).to_binary())


def click_mo() -> bytes:
    """Compile the catalogue of click's texts for gettext."""
    import polib

    return bytes(polib.pofile(str(CLICK), encoding="utf-8").to_binary())


def places(template: str) -> set[str]:
    """Return the placeholders of a template with their format specifications."""
    return {
        f"{name}!{conversion}:{spec}"
        for _, name, spec, conversion in Formatter().parse(template)
        if name is not None
    }


def counts(template: str) -> bool:
    """Return whether a text needs plural forms; pure."""
    return template not in UNCOUNTED and any(
        found[1] in COUNTED and found[2] != "bytes" for found in COUNTS.finditer(template)
    )


def _faults(template: str, said: str | Forms, counting: str | Forms | None) -> Iterator[str]:
    """Yield the errors in a translation."""
    forms = said.forms if isinstance(said, Forms) else (said,)
    if not all(forms):
        yield f"not translated: {template}"
        return
    if isinstance(said, Forms) != isinstance(counting, Forms):
        yield f"counts in one language alone: {template}"
    # In some languages the singular omits the number ("a record").
    may_lack = {f"{said.place}!None:"} if isinstance(said, Forms) else set()
    for form in forms:
        if not places(template) - may_lack <= places(form) <= places(template):
            yield f"other places in the translation: {template}"


def problems() -> Iterator[str]:
    """Yield everything that is outdated or wrong."""
    found, said, counting = read_source(), read_po(), read_po(ENGLISH)
    for template in found.templates:
        yield from _faults(template, said.get(template, ""), counting.get(template))
        if counts(template) and template not in counting:
            yield f"counts, and the English .po has no form for one: {template}"
    for template, forms in counting.items():
        if not isinstance(forms, Forms) or f"{forms.place}!None:" not in places(template):
            yield f"the place that counts is not in it: {template}"
        else:
            yield from _faults(template, forms, forms)
    for template in {**said, **counting}:
        if template not in found.templates:
            yield f"no longer in the program: {template}"
    yield from found.misfits
    for line in duplicates(found):
        yield f"one code for two things: {line}"
    compiled = {
        po: render_mo(rows, _language(po)) for po, rows in ((PO, said), (ENGLISH, counting))
    }
    for po, content in (compiled | {CLICK: click_mo()}).items():
        mo = po.with_suffix(".mo")
        if not mo.exists() or mo.read_bytes() != content:
            yield f"out of date: {mo.relative_to(ROOT)}"
    if MESSAGES.with_suffix(".json").read_text("utf-8") != compiled_messages():
        yield f"out of date: {MESSAGES.with_suffix('.json').relative_to(ROOT)}"
    pages = {page: render_table(found, language) for language, page in TABLES.items()}
    yield from (
        f"out of date: {page.relative_to(ROOT)}"
        for page, text in pages.items()
        if not page.exists() or page.read_text("utf-8") != text
    )


def _language(po: Path) -> str:
    return po.parents[1].name


def main(arguments: list[str]) -> int:
    """Check or write all files."""
    if arguments not in ([], ["--check"]):
        sys.stdout.write(__doc__ or "")
        return 2
    if not arguments:
        found, counting = read_source(), read_po(ENGLISH)
        counting = {key: forms for key, forms in counting.items() if key in found.templates}
        for po, rows in ((PO, in_step(found, read_po(), counting)), (ENGLISH, counting)):
            po.parent.mkdir(parents=True, exist_ok=True)
            po.write_text(render_po(found, rows, _language(po)), "utf-8")
            po.with_suffix(".mo").write_bytes(render_mo(rows, _language(po)))
        CLICK.with_suffix(".mo").write_bytes(click_mo())
        MESSAGES.with_suffix(".json").write_text(compiled_messages(), "utf-8")
        for language, table in TABLES.items():
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text(render_table(found, language), "utf-8")
    left = list(problems())
    for line in left:
        sys.stdout.write(f"{line}\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
