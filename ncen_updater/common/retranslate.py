"""Words that were made in English, in the language of a session. Pure.

A sentence of ours holds values that are words alone: what the system, a library or a server said
of a failure; the reason of an error that another process or an old journal tells; a figure that
crossed with them. Each is known by its form:

* a figure, a size or a date as English writes it is written as the language does;
* a sentence of ours, with its code or without, is looked up backwards in the catalogue and said
  with its values. ``script/messages`` finds there, too, what our rooms hand on as words alone;
* what the system and the libraries say often is in :data:`OTHERS`;
* what else reads as English is quoted, and said to be the words of others.

Only sessions in another language than English come here.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Final

from ncen_updater.common.i18n import N_, Figure, Text, templates, translate

#: What the system says of a file or connection that fails, often the reason in a sentence of ours.
SYSTEM: Final = frozenset(
    {
        N_("Broken pipe"), N_("Connection refused"), N_("Connection reset by peer"),
        N_("Connection timed out"), N_("Device or resource busy"), N_("Directory not empty"),
        N_("Disk quota exceeded"), N_("File exists"), N_("File name too long"),
        N_("File too large"), N_("Input/output error"), N_("Invalid cross-device link"),
        N_("Is a directory"), N_("Name or service not known"), N_("Network is unreachable"),
        N_("No route to host"), N_("No space left on device"), N_("No such file or directory"),
        N_("Not a directory"), N_("Operation not permitted"), N_("Permission denied"),
        N_("Read-only file system"), N_("Temporary failure in name resolution"),
        N_("Too many levels of symbolic links"), N_("Too many open files"), N_("timed out"),
    }
)  # fmt: skip
#: How each thing begins that the agent finds when it asks the application how it is.
_FOUND: Final = (
    r"(?:answered with |did not answer|was not asked: |the answer is not |the field '|'[^']+' is |"
    r"'[^']+' (?:tells no|did not say the|cannot say the) version)"
)
#: What libraries and servers say, by its form; what the groups hold are the values.
OTHERS: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(form, re.DOTALL), template)
    for form, template in (
        # The system, by its number.
        (r"\[Errno -?\d+\] (?P<what>[^:]+): (?P<path>'[^']+')( -> '[^']+')?",
         N_("file {path}: {what}")),
        (r"\[Errno -?\d+\] (?P<what>[^:]+)", "{what}"),
        (r"file (?P<path>'[^']+'): (?P<what>.+)", N_("file {path}: {what}")),
        # Who holds a lock: a command, and its process.
        (r"(?P<what>[a-z-]+), process (?P<process>\d+)", N_("{what}, process {process}")),
        # What rooms of ours say in a word.
        (r"no (?P<sign>[\w./-]+)", N_("{sign} is missing")),
        (r"(?:over|more than) (?P<limit>\d+) bytes", N_("more than {limit} bytes")),
        # What the agent found when it asked the application: one thing, or several.
        (rf"(?P<first>(?:[^:;']+: )?{_FOUND}.*?); (?P<second>(?:[^:;']+: )?{_FOUND}.*)",
         N_("{first}, and {second}")),
        (rf"(?P<code>[^:;']+): (?P<what>{_FOUND}.*)", N_("{code}: {what}")),
        (r"answered with status (?P<status>\d+)", N_("answered with status {status}")),
        (r"answered with status (?P<status>\d+), refusing the token that this site sends"
         r" \((?P<key>\w+)\)",
         N_("answered with status {status}, refusing the token that this site sends ({key})")),
        (r"answered with status (?P<status>\d+), refusing the headers that this site sends"
         r" \((?P<key>\w+)\)",
         N_("answered with status {status}, refusing the headers that this site sends ({key})")),
        (r"answered with status (?P<status>\d+), refusing the token or the headers that this site"
         r" sends \((?P<keys>\w+, \w+)\)",
         N_("answered with status {status}, refusing the token or the headers that this site"
            " sends ({keys})")),
        (r"answered with status (?P<status>\d+), expected (?P<wanted>\d+)",
         N_("answered with status {status}, expected {wanted}")),
        (r"answered with more than (?P<most>\d+) bytes",
         N_("answered with more than {most} bytes")),
        (r"did not answer within (?P<limit>[\d.]+) seconds",
         N_("did not answer within {limit} s")),
        (r"did not answer: (?P<what>.+)", N_("did not answer: {what}")),
        (r"the answer is not JSON", N_("the answer is not JSON")),
        (r"the answer tells no version", N_("the answer tells no version")),
        (r"the answer is not a JSON object", N_("the answer is not a JSON object")),
        (r"the field '(?P<name>[^']+)' is missing", N_("the field '{name}' is missing")),
        (r"'(?P<name>[^']+)' is (?P<found>.+), expected (?P<wanted>.+)",
         N_("'{name}' is {found}, expected {wanted}")),
        # SQLite.
        (r"line (?P<line>\d+): (?P<what>.+)", N_("line {line}: {what}")),
        (r"UNIQUE constraint failed: (?P<place>\S+)",
         N_("a value of {place} would be there twice")),
        (r"NOT NULL constraint failed: (?P<place>\S+)", N_("{place} would have no value")),
        (r"CHECK constraint failed: (?P<name>\S+)", N_("the rule {name} would be broken")),
        (r"FOREIGN KEY constraint failed", N_("a row would lead to one that is not there")),
        (r"no such (?:table|column|index|function|view|trigger): (?P<name>\S+)",
         N_("{name} does not exist")),
        (r"(?:table|index|view|trigger) (?P<name>\S+) already exists", N_("{name} exists already")),
        (r"duplicate column name: (?P<name>\S+)", N_("{name} exists already")),
        (r"near (?P<word>\".+\"): syntax error", N_("syntax error near {word}")),
        (r"file is not a database", N_("the file is no database")),
        (r"database disk image is malformed", N_("the database is damaged")),
        (r"database is locked", N_("the database is locked")),
        (r"database or disk is full", N_("No space left on device")),
        (r"unable to open database file", N_("the file of the database cannot be opened")),
        (r"attempt to write a readonly database", N_("the database may only be read")),
        (r"disk I/O error", N_("Input/output error")),
        # PostgreSQL and its client.
        (r"(?P<what>.+) \((?P<state>[0-9A-Z]{5})\)", "{what} ({state})"),
        (r"relation (?P<name>\".+?\") does not exist", N_("the table {name} does not exist")),
        (r"column (?P<name>.+?) does not exist", N_("the column {name} does not exist")),
        (r"(?:database|role|schema|function|type) (?P<name>\".+?\") does not exist",
         N_("{name} does not exist")),
        (r"relation (?P<name>\".+?\") already exists", N_("{name} exists already")),
        (r"permission denied for \w+ (?P<name>\S+)", N_("no right to {name}")),
        (r"syntax error at or near (?P<word>\".+\")", N_("syntax error near {word}")),
        (r"canceling statement due to lock timeout",
         N_("another session held what was needed for too long")),
        (r"canceling statement due to statement timeout", N_("the statement took too long")),
        (r"terminating connection due to administrator command",
         N_("the server ended the connection")),
        (r"server closed the connection unexpectedly.*", N_("the server ended the connection")),
        (r"the connection is (?:lost|closed)", N_("the connection is gone")),
        (r"connection timeout expired", N_("no answer came in time")),
        (r"connection failed: (?P<what>.+)", "{what}"),
        (r"connection (?:to server )?(?:on socket|at) \"?(?P<place>[^\"]+)\"?"
         r"(?:, port (?P<port>\d+))? failed: (?P<what>[^\n]+)(?:\n.*)?",
         N_("connection to {place} failed: {what}")),
        (r"(?:FATAL|ERROR): +(?P<what>.+)", "{what}"),
        (r"password authentication failed for user (?P<name>\".+\")",
         N_("the password of {name} was refused")),
        (r"no pg_hba.conf entry for host (?P<host>\S+), user (?P<user>\S+), database"
         r" (?P<database>\S+)(?:, .*)?",
         N_("pg_hba.conf lets {user} at {host} into {database} by no line")),
        (r"Peer authentication failed for user (?P<name>\".+\")",
         N_("pg_hba.conf does not take this user of the machine for {name}")),
        (r"remaining connection slots are reserved.*|sorry, too many clients already",
         N_("the server has no connection left")),
        (r"the database system is (?:starting up|not yet accepting connections)",
         N_("the server is starting")),
        (r"the database system is shutting down", N_("the server is stopping")),
        # Python: HTTP, TLS, JSON, TOML, processes.
        (r"(?:[^(]*)HTTPS?ConnectionPool\(host='(?P<host>[^']*)', port=(?P<port>\d+)\): Max retries"
         r" exceeded[^(]*\(Caused by .*: (?P<what>[^:]*[^:'\")])['\")]+",
         N_("no connection to {host}:{port}: {what}")),
        (r"(?:[^(]*)HTTPS?ConnectionPool\(host='(?P<host>[^']*)', port=(?P<port>\d+)\):"
         r" Read timed out\..*", N_("{host}:{port} did not answer in time")),
        (r"wrong version number", N_("the other side does not encrypt")),
        (r"Failed to establish a new connection: (?P<what>.+)", "{what}"),
        (r"\('Connection aborted\.', (?:\w+)\((?:\d+, )?'(?P<what>[^']+)'\)\)", "{what}"),
        (r"Remote end closed connection without response",
         N_("the other side ended the connection without an answer")),
        (r"<urlopen error (?P<what>.+)>", "{what}"),
        (r"HTTP Error (?P<status>\d+): .*", N_("the answer was {status}")),
        (r"IncompleteRead\(.*\)", N_("the answer breaks off")),
        (r"(?:\[SSL: [A-Z_]+\] )?certificate verify failed: (?P<what>.+?)(?: \(_ssl\.c:\d+\))?",
         N_("the certificate of the other side is not believed: {what}")),
        (r"self[- ]signed certificate(?: in certificate chain)?",
         N_("nobody known vouches for it")),
        (r"unable to get local issuer certificate", N_("nobody known vouches for it")),
        (r"certificate has expired", N_("its time is over")),
        (r"Hostname mismatch, certificate is not valid for (?P<name>'.+'\.?)",
         N_("it is not that of {name}")),
        (r"(?P<what>.+): line (?P<line>\d+) column (?P<column>\d+) \(char \d+\)",
         N_("{what} (line {line}, column {column})")),
        (r"Expecting value|Expecting ',' delimiter|Expecting ':' delimiter|Extra data"
         r"|Expecting property name enclosed in double quotes|Unterminated string starting at"
         r"|Invalid control character at|Invalid \\escape",
         N_("it is no JSON")),
        (r"(?P<what>.+) \(at line (?P<line>\d+), column (?P<column>\d+)\)",
         N_("{what} (line {line}, column {column})")),
        (r"(?P<what>.+) \(at end of document\)", N_("{what} (at the end of the file)")),
        (r"Expected (?P<sign>'.+?') .*", N_("{sign} is missing")),
        (r"Invalid value|Invalid initial character for a key part|Invalid statement"
         r"|Expected newline or end of document after a statement",
         N_("what stands there is no value")),
        (r"Unterminated string|Unclosed array|Unclosed inline table|Illegal character .*",
         N_("a missing quote or bracket")),
        (r"'[^']+' codec can't decode byte .*", N_("it is no UTF-8 text")),
        (r"Command .+ returned non-zero exit status (?P<status>\d+)\.",
         N_("the program ended with {status}")),
        (r"Command .+ died with <Signals\.(?P<signal>\w+): \d+>\.",
         N_("the program was ended by {signal}")),
        (r"Command .+ timed out after (?P<seconds>[\d.]+) seconds",
         N_("the program did not end within {seconds} s")),
        (r"embedded null (?:byte|character)", N_("a zero character stands in it")),
        (r"(?:The read operation )?timed out", N_("timed out")),
    )
)  # fmt: skip
_UNITS: Final = {"bytes": "o", "B": "o", "kB": "ko", "MB": "Mo", "GB": "Go", "TB": "To"}
_FIGURE: Final = re.compile(
    r"(?P<digits>(?:< )?(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?))"
    r"(?P<unit> (?:bytes|B|kB|MB|GB|TB|s|%))?"
)
_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)?(Z|\+00:00| UTC| [+-]\d{4})?)?"
)
_CODE: Final = re.compile(r"(NU-\d{4}): (.+)", re.DOTALL)
#: Words of English that French, Portuguese and Spanish do not have.
_ENGLISH: Final = re.compile(
    r"\b(?:the|and|with|from|is|are|was|were|not|this|that|which|of|by|its|has|have|been|be|will"
    r"|cannot|can't|could|failed|missing|expected|invalid|unknown|denied|refused|closed|does|did"
    r"|must|already|exists|found|there|because|too|than|when|without|into|these|those|what)\b",
    re.IGNORECASE,
)
#: A statement, which is of no language of people.
_SQL: Final = re.compile(
    r"\s*(?:ALTER|BEGIN|CALL|CREATE|DELETE|DO|DROP|EXECUTE|GRANT|INSERT|MERGE|SELECT|SET|TRUNCATE"
    r"|UPDATE|WITH)\b"
)
#: Longer words are nobody's sentence; they may be a release's, and take time to compare.
LONGEST: Final = 1000
#: So much of a template has to be words for a sentence to be known by it, and where it begins with
#: a place so many of them: one verb alone ("{key} becomes {value}") is in what people write, too.
_ENOUGH: Final = 6
_WORDS_ENOUGH: Final = 2
_PLACE: Final = re.compile(r"\{([A-Za-z_]\w*)\}")
#: A sentence is in a sentence that is in a sentence: deeper is nobody's.
_DEEPEST: Final = 6
QUOTED: Final = N_("\u201c{words}\u201d (in the words of its source)")


def retold(said: str, language: str, *, quoted: bool = False, depth: int = 0) -> str:
    """Return words in a language, as far as they are known; never fails.

    Args:
        said: What was said, in English, in the language already, or by a person.
        language: Of the session; not English.
        quoted: Whether it stands between quotes as it is.
        depth: How many sentences it is within.
    """
    if depth > _DEEPEST or not said:
        return said
    if " " not in said.strip():
        return _figure(said).render(language)
    if all(part in said for part in translate(QUOTED, language).split("{words}")):
        return said  # it was told in this language before, and crossed a process since
    if len(said) > LONGEST:
        whole = None
    elif "\n" in said.strip():
        lines = [_known(line, language, depth) for line in said.split("\n")]
        whole = _known(said, language, depth)
        if whole is None and all(line is not None for line in lines):
            whole = "\n".join(line or "" for line in lines)
    else:
        whole = _known(said, language, depth)
    if whole is not None:
        return whole
    if quoted or _SQL.match(said) or not _ENGLISH.search(said):
        return said
    return translate(QUOTED, language).replace("{words}", said.strip())


def _figure(said: str) -> Figure:
    """A figure, a size or a time as English writes it, with how French does; else the same."""
    if not said.removeprefix("< ")[:1].isdigit():
        return Figure(said)
    found = _FIGURE.fullmatch(said)
    if found is not None and ("," in found[1] or "." in found[1] or found[2]):
        if found[1].count(".") and not found[2]:
            return Figure(said)  # a version, or a number of one
        digits = found[1].replace(",", "\N{NARROW NO-BREAK SPACE}").replace(".", ",")
        unit = (found[2] or "").strip()
        return Figure(said, fr=f"{digits} {_UNITS.get(unit, unit)}".strip())
    moment = _MOMENT.fullmatch(said)
    if moment is None:
        return Figure(said)
    try:
        day = datetime.fromisoformat(moment[1])
    except ValueError:
        return Figure(said)
    zone = " UTC" if moment[3] in ("Z", "+00:00") else moment[3] or ""
    return Figure(said, fr=f"{day:%d/%m/%Y}{' à ' + moment[2] if moment[2] else ''}{zone}")


def _known(said: str, language: str, depth: int) -> str | None:
    """What is known by its form; None for the words of others."""
    words = said.strip()
    if not words:
        return said
    figure = _figure(words)
    if figure.forms:
        return figure.render(language)
    coded = _CODE.fullmatch(words)
    if coded is not None:
        inner = _known(coded[2], language, depth + 1)
        said = inner if inner is not None else retold(coded[2], language)
        return translate("{code}: {what}", language).format(code=coded[1], what=said)
    direct = translate(words, language)
    if direct != words:
        return direct
    return _of_others(words, language, depth) or _of_ours(words, language, depth)


def _of_others(words: str, language: str, depth: int) -> str | None:
    for form, template in OTHERS:
        found = form.fullmatch(words)
        if found is not None:
            values = {key: value for key, value in found.groupdict().items() if value is not None}
            return _filled(template, values, language, depth)
    return None


def _filled(template: str, values: dict[str, str], language: str, depth: int) -> str:
    key = language.partition("@")[0].partition("_")[0]
    told: dict[str, object] = {
        name: Figure(value, **{key: retold(value, language, depth=depth + 1)})
        for name, value in values.items()
    }
    return Text(template, told).render(language)


def _of_ours(words: str, language: str, depth: int) -> str | None:
    """A sentence of ours, by the most of its words; with what an error adds in brackets."""
    first = words.split(" ", 1)[0]
    known = _index()
    for template in (*known.get(first, ()), *known.get("", ())):
        values = _values(template, words)
        if values is not None:
            return _filled(template, values, language, depth)
    inner = re.fullmatch(r"(.+?[.!?]) \((.+)\)", words, re.DOTALL)
    if inner is not None:
        sentence = _known(inner[1], language, depth + 1)
        if sentence is not None:
            return f"{sentence} ({retold(inner[2], language, depth=depth + 1)})"
    return None


@cache
def _index() -> dict[str, tuple[str, ...]]:
    """Sentences with places by their first word, "" where that is a place; the longest first."""
    found: dict[str, list[str]] = {}
    for template in templates():
        literal = _PLACE.sub("", template)
        places = _PLACE.findall(template)
        if not places or sum(map(str.isalpha, literal)) < _ENOUGH or len(set(places)) < len(places):
            continue
        first = template.split(" ", 1)[0]
        if template.startswith("{") and len(literal.split()) < _WORDS_ENOUGH:
            continue
        found.setdefault("" if "{" in first else first, []).append(template)
    return {
        first: tuple(sorted(several, key=lambda t: -len(_PLACE.sub("", t))))
        for first, several in found.items()
    }


def _values(template: str, words: str) -> dict[str, str] | None:
    """What the places of a template hold in words; None where they are another sentence.

    Each literal part is taken where it comes first, without trying again: in time that grows as the
    words do, whoever wrote them.
    """
    first, *rest = _PLACE.split(template)
    if not words.startswith(first):
        return None
    at, found = len(first), dict[str, str]()
    for number in range(0, len(rest), 2):
        name, literal = rest[number], rest[number + 1]
        if number + 2 < len(rest):
            end = words.find(literal, at + 1) if literal else -1
        else:
            end = len(words) - len(literal) if words.endswith(literal) else -1
        if end <= at:
            return None
        found[name], at = words[at:end], end + len(literal)
    return found
