"""The French catalogue is French, and says each thing by one word."""

from __future__ import annotations

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "script" / "messages.py"
PACKAGE = SCRIPT.parents[1] / "ncen_updater"
READ = runpy.run_path(str(SCRIPT))["read_po"]
#: Words that are the same in both languages.
SAME = {
    "; ",  # with another space before it
    "Audit", "Configuration", "Date", "Maintenance", "Mode",
    "Navigation", "Options", "Pages", "Signature", "Signatures", "Site", "Sites", "Table",
    "UID", "code",
    "extensions", "import", "plan",
    "signatures", "tables", "type", "types", "version",
    "{kind}, mode {mode}",
}  # fmt: skip
#: Names, which are no words of a language: commands and options, files, settings, statements.
NAMES = re.compile(
    r"\{\w+\}|«[^»]*»|\"[^\"]*\"|--feed feed"
    r"|--[\w-]+|\[[^\]]*\]|[\w./*-]+\.(?:md|py|toml|json|tar\.gz)\S*"
    r"|ncen-\w+(?: [a-z-]+)?|script/\S+|[A-Z]{3,}[A-Z ]*[\w.]*|commande upgrade"
    r"|file d'attente|chefs? de file|status, history et rollback|le slot de l'autre côté"
    r"|slots? de réplication"
)
ENGLISH = re.compile(
    r"\b(?:the|and|with|from|is|are|was|were|not|this|that|which|before|after|of|to|by|it|its|has"
    r"|have|been|will|only|again|every|files?|server|release|officers?|upgrade|rollback|database"
    r"|feed|slot|bundle|dump|approve|changed|found|while|where|there)\b"
)
#: What the glossary says otherwise, and what people stumbled over; with the word in its place.
OTHERWISE = {
    r"\bcolis\b": "lot hors ligne",
    r"\bflux\b(?! (?:d'événements|tronqué))": "dépôt",
    r"mise à jour (?!des statistiques|de ncen-updater)": "mise à niveau",
    r"\brépét(?:er|ée?s?) (?:à|les migrations)": "essai à blanc",
    r"paquets? de différences": "paquet différentiel",
    r"\bopération \{": "changement",
    r"\bfenêtre\b|\bcréneau\b": "plage horaire",
    r"tenus? (?:dehors|à l'écart)|\bécartés?\b": "interruption de service",
    r"\bdump\b": "export",
    r"\b[Ff]ix(?:e|er|ez|ent|é)\b": "définir",
    r"\b(?:indiquez|[ÉEée]crivez|fixez) \w+ = ": "définissez",
    r"(?<!')(?<![\w-])'[^' ]+'(?!\w)": "« »",
}


def iter_translations() -> Iterator[tuple[str, str]]:
    for template, words in READ().items():
        for form in (words,) if isinstance(words, str) else words.forms:
            yield template, form


def test_every_text_differs_from_english() -> None:
    assert {text for text, form in iter_translations() if form.strip() == text.strip()} == SAME


def test_no_word_is_english() -> None:
    assert {
        form: found
        for _, form in iter_translations()
        if (found := ENGLISH.findall(NAMES.sub("", form)))
    } == {}


def test_terms_are_consistent() -> None:
    wrong = {
        (form, word)
        for _, form in iter_translations()
        for pattern, word in OTHERWISE.items()
        if re.search(pattern, form)
    }
    assert wrong == set()


#: Participles that people read beside a change, in the masculine.
MASCULINE = (
    r"(?:abandonné|achevé|annulé|approuvé|arrêté|bloqué|choisi|commencé|défait|demandé|échoué"
    r"|empêché|fait|fini|installé|interrompu|lancé|mené|ordonné|prévu|ramené|refusé|repris|suspendu"
    r"|terminé|validé|\{state\})(?![a-zé])"
)
#: "La mise à niveau vers 3.3.0 est terminé".
UPGRADE = re.compile(
    rf"\bmise à niveau(?: vers \S+| de \S+ à \S+| \([^)]*\))*"
    rf"(?:,| (?:n')?(?:est|était|sera|serait|a été|avait été|aura été)(?: pas| encore| déjà)*)"
    rf" {MASCULINE}"
)
#: "{kind} vers {version}, terminé": of an upgrade or of a rollback, so what agrees is the change.
OF_A_KIND = re.compile(rf"\{{kind\}}[^;.]*\b{MASCULINE}|\{{kind\}}[^;.]*\{{state\}}")
CHANGE = re.compile(r"\b[Cc]hangement[^;.]*\{kind\}")
#: Two points want a space before them, but in an address, a time or what is quoted.
TIGHT = re.compile(r"[^\s:]:(?=\s|$)|[^\s;][!?](?=\s|$)")
QUOTED = re.compile(r"«[^»]*»|\{\w+\}")


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("La mise à niveau vers {version} est terminé.", True),
        ("La mise à niveau vers {version} est terminée.", False),
        ("{kind} vers {version}, {state} le {at} (changement {change}).", True),
        ("{kind} : {origin} -> {version}, terminé (changement {id})", True),
        ("Changement {id} terminé : {kind}, {origin} -> {version}", False),
        ("Le changement ({kind} vers {version}) est validé.", False),
        ("Une mise à niveau a commencé.", False),
    ],
)
def test_wrong_agreement_is_detected(form: str, *, wrong: bool) -> None:
    assert disagrees(form) is wrong


def disagrees(form: str) -> bool:
    """Whether a participle beside an upgrade is masculine."""
    beside = OF_A_KIND.search(form) is not None and CHANGE.search(form) is None
    return beside or UPGRADE.search(form) is not None


def test_upgrade_is_feminine() -> None:
    """Seen: "mise à niveau vers 3.3.0, commencé le ...", "annulé", "validé"."""
    assert [form for _, form in iter_translations() if disagrees(form)] == []


def test_colons_have_a_space_before_them() -> None:
    """Seen: "3.3.0: nCEN factice"."""
    assert [form for _, form in iter_translations() if TIGHT.search(QUOTED.sub("x", form))] == []


def test_catalogue_has_ordinary_spaces() -> None:
    """No-break spaces are inserted when a text is shown (``protect_spacing``)."""
    assert [form for _, form in iter_translations() if re.search(r"[\u00a0\u202f]", form)] == []


def test_literal_names_are_unchanged() -> None:
    """Settings, options, files and codes; a quoted name in French quotation marks."""
    typed = re.compile(
        r"'([a-z_.-]+)'|(--[a-z-]+)|\b([a-z]+_[a-z_]+|NU-\d+|[\w-]+\.(?:toml|json|sql))\b"
    )
    for english, french in iter_translations():
        plain, plain_french = (re.sub(r"{\w+}", "", text) for text in (english, french))
        names = {n for found in typed.findall(plain) for n in found if n}
        assert not [name for name in names if name not in plain_french], (english, french)


def test_nothing_is_elided_before_a_consonant() -> None:
    for _, french in iter_translations():
        assert not re.search(r"\b[dlnsj]'[b-df-gj-np-tv-xz]", french), french


def _is_english(node: ast.expr) -> bool:
    """Whether a reason is joined from English words, and so untranslatable."""
    parts = node.values if isinstance(node, ast.JoinedStr) else ()
    return any(
        isinstance(part, ast.Constant) and re.search(r"[A-Za-z]{2,}", str(part.value))
        for part in parts
    )


@pytest.mark.parametrize("room", ["feed", "formats"])
def test_every_reason_is_translatable(room: str) -> None:
    """Seen in a French session: "Détail : ... status 503", "... is not in the signed tree"."""
    raised = [
        (f"{path.name}:{node.lineno}", node.exc)
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    found = [
        place
        for place, error in raised
        for reason in (*error.args, *(k.value for k in error.keywords if k.arg != "name"))
        if _is_english(reason)
    ]
    assert found == []
