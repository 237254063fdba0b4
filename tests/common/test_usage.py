"""Tests of usage errors in the language of the run, click's own texts too."""

from __future__ import annotations

import ast
import gettext
import os
from pathlib import Path

import click
import pytest

import ncen_updater
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import (
    GIVE_ONE,
    METAVARS,
    CommandUsageError,
    format_usage_error,
    translate_metavars,
    use_click_language,
)
from ncen_updater.common.i18n import N_


@click.group()
def kit() -> None:
    """A command line with a parameter of every kind that ours have."""


@kit.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--key", type=click.Choice(["a", "b"]), required=True)
@click.option("--size", type=click.IntRange(1, 9))
@click.option("--count", type=int)
@click.option("--share", type=float)
@click.option("--place", type=click.Path(exists=True, file_okay=False))
@click.option("--quiet", is_flag=True)
def work(**given: object) -> None:
    """Do nothing."""


HERE = __file__
GOOD = ("work", HERE, "--key", "a")
#: A command line, what click says, and what a French session reads.
TABLE = [
    (("nonsense",), "No such command 'nonsense'.", "La commande 'nonsense' n'existe pas."),
    (("wirk",), "No such command 'wirk'. Did you mean 'work'?",
     "La commande 'wirk' n'existe pas. Vouliez-vous dire 'work' ?"),
    (("work", "--key", "a"), "Missing argument 'FILE'.", "Il manque l'argument 'FICHIER'."),
    (("work", HERE), "Missing option '--key'. Choose from: a, b",
     "Il manque l'option '--key'. À choisir parmi : a, b"),
    ((*GOOD, "--keys", "a"), "No such option '--keys'. Did you mean '--key'?",
     "L'option '--keys' n'existe pas. Vouliez-vous dire '--key' ?"),
    ((*GOOD, "--zzz"), "No such option '--zzz'.", "L'option '--zzz' n'existe pas."),
    ((*GOOD, "x", "y"), "Got unexpected extra arguments (x y)", "Arguments en trop (x y)"),
    ((*GOOD, "--size"), "Option '--size' requires an argument.",
     "L'option '--size' demande une valeur."),
    ((*GOOD, "--quiet=1"), "Option '--quiet' does not take a value.",
     "L'option '--quiet' ne prend pas de valeur."),
    (("work", HERE, "--key", "c"), "Invalid value for '--key': 'c' is not one of 'a', 'b'.",
     "Valeur incorrecte pour '--key' : 'c' n'est pas parmi 'a', 'b'."),
    ((*GOOD, "--size", "x"), "Invalid value for '--size': 'x' is not a valid integer range.",
     "Valeur incorrecte pour '--size' : 'x' n'est pas un nombre valable."),
    ((*GOOD, "--size", "10"), "Invalid value for '--size': 10 is not in the range 1<=x<=9.",
     "Valeur incorrecte pour '--size' : 10 n'est pas dans l'intervalle 1<=x<=9."),
    ((*GOOD, "--count", "x"), "Invalid value for '--count': 'x' is not a valid integer.",
     "Valeur incorrecte pour '--count' : 'x' n'est pas un nombre valable."),
    ((*GOOD, "--share", "x"), "Invalid value for '--share': 'x' is not a valid float.",
     "Valeur incorrecte pour '--share' : 'x' n'est pas un nombre valable."),
    (("work", "/none", "--key", "a"),
     "Invalid value for 'FILE': File '/none' does not exist.",
     "Valeur incorrecte pour 'FICHIER' : '/none' n'existe pas."),
    (("work", "/", "--key", "a"), "Invalid value for 'FILE': File '/' is a directory.",
     "Valeur incorrecte pour 'FICHIER' : '/' est un répertoire."),
    ((*GOOD, "--place", "/none"), "Invalid value for '--place': Directory '/none' does not exist.",
     "Valeur incorrecte pour '--place' : '/none' n'existe pas."),
]  # fmt: skip


def refused_in(language: str, command: click.Command, *words: str) -> str:
    """What a session in a language reads of a command line."""
    with use_click_language(language), pytest.raises(click.UsageError) as refused:
        command.main(list(words), standalone_mode=False)
    with use_click_language(language):
        return format_usage_error(refused.value, language)


@pytest.mark.parametrize(("words", "english", "french"), TABLE, ids=[row[1] for row in TABLE])
def test_every_click_message_is_translated(
    words: tuple[str, ...], english: str, french: str
) -> None:
    assert refused_in("en", kit, *words) == english
    assert refused_in("fr", kit, *words) == french


def test_language_of_click_is_reset_after_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGUAGE", "pt:es")
    assert refused_in("fr", kit, "wirk").startswith("La commande")
    assert os.environ["LANGUAGE"] == "pt:es"
    assert gettext.textdomain() != "click"
    monkeypatch.delenv("LANGUAGE")
    assert refused_in("xx", kit, "wirk").startswith("No such command")
    assert "LANGUAGE" not in os.environ


def test_missing_option_includes_its_help() -> None:
    @click.command()
    @click.option("--advice", required=True, help=N_("Reason shown to operators"))
    def told(**given: object) -> None:
        """Do nothing."""

    english = "Missing option '--advice'. Reason shown to operators."
    assert refused_in("en", told) == english
    french = "Il manque l'option '--advice'. Motif affiché aux exploitants."
    assert refused_in("fr", told) == french


def test_usage_errors_of_commands_are_translated() -> None:
    plain = CommandUsageError(GIVE_ONE, option="TIME", other="--cancel")
    assert format_usage_error(plain, "en") == plain.message == "give TIME or --cancel"
    assert format_usage_error(plain, "fr") == "indiquez DATE-HEURE ou --cancel"
    hinted = CommandUsageError(N_("unknown country {country}"), hint="COUNTRY", country="ZZ")
    assert format_usage_error(hinted, "en") == "Invalid value for COUNTRY: unknown country ZZ"
    assert format_usage_error(hinted, "fr") == "Valeur incorrecte pour PAYS : pays inconnu ZZ"


def test_unknown_click_message_is_passed_on() -> None:
    assert format_usage_error(click.UsageError("of a later click"), "fr") == "of a later click"


def test_only_placeholders_are_translated() -> None:
    assert translate_metavars("--config PATH", "fr") == "--config CHEMIN"
    assert (
        translate_metavars("[OPTIONS] COMMAND [ARGS]...", "fr")
        == "[OPTIONS] COMMANDE [ARGUMENTS]..."
    )
    assert translate_metavars("--size INTEGER", "fr") == "--size ENTIER"
    assert translate_metavars("NCEN_CONFIG_FILE --FILE", "fr") == "NCEN_CONFIG_FILE --FILE"
    assert translate_metavars("FILE", "en") == "FILE"


def test_no_command_has_an_untranslated_usage_error() -> None:
    root = Path(ncen_updater.__file__).parent
    for path in root.rglob("cli/*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "click.UsageError", "click.BadParameter", "click.ClickException", "context.fail",
            ):  # fmt: skip
                raise AssertionError(f"{path}:{node.lineno}: say it as Misuse")


def test_every_placeholder_of_a_command_is_known() -> None:
    """Those that are the same in every language are named here."""
    from ncen_updater.agent.cli.main import cli as agent
    from ncen_updater.common.cli.session import CliSession
    from ncen_updater.publisher.cli.main import cli as publisher

    same = {"OPTIONS", "VERSION", "SITE", "URL", "SIGNATURES", "N"}
    found: set[str] = set()

    def walk(command: click.Command, context: click.Context) -> None:
        texts = [" ".join(command.collect_usage_pieces(context))]
        texts += [
            record[0]
            for parameter in command.get_params(context)
            if (record := parameter.get_help_record(context))
        ]
        for text in texts:
            left = text
            for word in sorted(METAVARS, key=len, reverse=True):
                left = left.replace(word.upper(), "")
            found.update(part for part in left.replace("/", " ").split() if part.isupper())
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                walk(inner, click.Context(inner, parent=context, info_name=name))

    for group in (agent, publisher):
        walk(group, click.Context(group, info_name="x", obj=CliSession("x")))
    assert {word.strip("[].:<>=") for word in found} <= same


def test_prompt_has_the_colon_of_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: "Saisissez oui pour confirmer [non]:"."""
    asked: list[str] = []
    monkeypatch.setattr(
        click, "prompt", lambda text, *, prompt_suffix, **_: asked.append(text + prompt_suffix)
    )
    CliSession("ncen-updater", language="fr").prompt("Continuer ?")
    CliSession("ncen-updater").prompt("Continue?")
    assert asked == ["Continuer ?\N{NO-BREAK SPACE}: ", "Continue?: "]


def test_only_the_session_prompts() -> None:
    package = Path(ncen_updater.__file__).parent
    calls = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "click.prompt(" in path.read_text("utf-8")
    ]
    assert calls == ["common/cli/session.py"]
