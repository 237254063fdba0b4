"""The French catalogue is French, and says each thing by one word."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "messages"
READ = runpy.run_path(str(SCRIPT))["read_po"]
#: Words that are the same in both languages.
SAME = {
    "Code", "Configuration", "Date", "Options", "Plan", "Signature", "Table", "code", "note",
    "signatures", "verdict", "version",
}  # fmt: skip
#: Names, which are no words of a language: commands and options, files, settings, statements.
NAMES = re.compile(
    r"\{\w+\}|« [^»]* »|\"[^\"]*\"|--[\w-]+|\[[^\]]*\]|[\w./*-]+\.(?:md|py|toml|json|tar\.gz)\S*"
    r"|ncen-\w+(?: [a-z-]+)?|script/\S+|[A-Z]{3,}[A-Z ]*[\w.]*|commande upgrade"
    r"|status, history et rollback|le slot de l'autre côté"
)
ENGLISH = re.compile(
    r"\b(?:the|and|with|from|is|are|was|were|not|this|that|which|before|after|of|to|by|it|its|has"
    r"|have|been|will|only|again|every|files?|server|release|officers?|upgrade|rollback|database"
    r"|feed|slot|bundle|dump|approve|changed|found|while|where|there)\b"
)
#: What docs/glossary.md says otherwise, and what people stumbled over; with the word in its place.
OTHERWISE = {
    r"\bcolis\b": "lot hors ligne",
    r"\bflux\b": "dépôt",
    r"mise à jour (?!des statistiques)": "mise à niveau",
    r"\brépét(?:er|ée?s?) (?:à|les migrations)": "essai à blanc",
    r"paquets? de différences": "paquet différentiel",
    r"\bopération \{": "changement",
    r"\bfenêtre\b|\bcréneau\b": "plage horaire",
    r"tenus? (?:dehors|à l'écart)|\bécartés?\b": "interruption de service",
    r"\bdump\b": "export",
    r"\b[Ll]'agent\b(?! des douanes)": "gestionnaire",
    r"(?<!')(?<![\w-])'[^' ]+'(?!\w)": "« »",
}


def said() -> Iterator[tuple[str, str]]:
    for template, words in READ().items():
        for form in (words,) if isinstance(words, str) else words.forms:
            yield template, form


def test_every_sentence_is_said_otherwise_than_in_english() -> None:
    assert {text for text, form in said() if form.strip() == text.strip()} == SAME


def test_no_word_is_english() -> None:
    assert {
        form: found for _, form in said() if (found := ENGLISH.findall(NAMES.sub("", form)))
    } == {}


def test_one_thing_has_one_name() -> None:
    wrong = {
        (form, word)
        for _, form in said()
        for pattern, word in OTHERWISE.items()
        if re.search(pattern, form)
    }
    assert wrong == set()
