"""Act on the local overlay: texts and settings are preserved, merged, refused and restored."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

from demo.show.report import Row
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

#: A language that is not shipped, and one changed text of a shipped language.
SWAHILI: Mapping[str, Any] = {
    "menu": {"search": "Tafuta", "fax": "Tuma kwa faksi"},
    "seizure": {"new": "Ukamataji mpya", "saved": "Imehifadhiwa: {ref}"},
}
FRENCH: Mapping[str, Any] = {"seizure": {"new": "Saisir un objet"}}
#: Translations added after the upgrade to 3.3.0: the text of the release, and its Swahili.
FILLED = ("Cultural artefact", "Kitu cha utamaduni")
SETTINGS = "[lists]\nrows = {rows}\n"
ROWS, TOO_MANY = "25", "5000"

Expected = Mapping[str, Mapping[str, str]]


def begin(stage: Stage) -> None:
    """Apply a local overlay; show that a setting which 3.3.0 does not accept is refused."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Local overlay"))
    say(
        N_(
            "The stand-in is in English and French. The site adds Swahili, changes one French"
            " text and shortens lists in its local overlay. Releases are never edited."
        )
    )
    (stage.site.country / "i18n").mkdir(parents=True)
    stage.site.configure(stage.site.own_words())
    _write(stage, "i18n/sw.json", json.dumps(SWAHILI, indent=2))
    _write(stage, "i18n/fr.json", json.dumps(FRENCH, indent=2))
    _write(stage, "settings.ini", SETTINGS.format(rows=ROWS))
    run("ncen-updater", "translations", "apply", "--quiet")
    run("ncen-updater", "translations", "report", "--quiet")
    seen = {
        "texts/sw": {"menu.search": "Tafuta", "menu.fax": "Tuma kwa faksi", "menu.print": "Print"},
        "texts/fr": {"seizure.new": "Saisir un objet", "menu.search": "Rechercher"},
        "settings": {"lists.rows": ROWS},
    }
    _judge(stage, LazyText(N_("local overlay with 3.2.4")), N_("shown to users"), seen)
    say(
        N_(
            "The site now sets lists to {rows} rows. The manifest of 3.3.0 allows at most 1000:"
            " the upgrade is refused, and users can work."
        ),
        rows=TOO_MANY,
    )
    _write(stage, "settings.ini", SETTINGS.format(rows=TOO_MANY))
    with stage.trial(
        LazyText(N_("upgrade with a setting that 3.3.0 rejects")),
        LazyText(N_("refused before any change")),
        runs="3.2.4",
        undone=True,
    ) as trial:
        ran = run("ncen-updater", "upgrade", "3.3.0", "--yes", "--quiet", limit=14)
        trial.ended(ran.status, ExitCode.BLOCKED)
        trial.require("NU-6350" in ran.output, LazyText(N_("The error does not name the setting.")))
    _write(stage, "settings.ini", SETTINGS.format(rows=ROWS))
    say(N_("The setting is corrected."))


def after_the_upgrade(stage: Stage) -> None:
    """Check the overlay after the upgrade, and translate the new text."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Local overlay after the upgrade"))
    say(
        N_(
            "3.3.0 changes texts. Local texts stay; all others come from the release. The"
            " Swahili text of 'Saved as ...' lacks the new placeholder for the user and is"
            " unused until corrected."
        )
    )
    seen = {
        "texts/sw": {
            "menu.search": "Tafuta",
            "seizure.new": "Ukamataji mpya",
            "seizure.saved": "Saved as {ref} by {officer}",
            "seizure.artefact": "Cultural artefact",
        },
        "texts/fr": {
            "seizure.new": "Saisir un objet",
            "menu.search": "Rechercher personnes et affaires",
        },
        "settings": {"lists.rows": ROWS},
    }
    _judge(
        stage,
        LazyText(N_("local overlay with 3.3.0")),
        N_("kept and merged; texts that do not match are unused"),
        seen,
    )
    say(N_("A translator receives the missing texts and returns them:"))
    run("ncen-updater", "translations", "export", "sw", "--to", "sw.po", "--quiet")
    done = _fill(stage)
    run("ncen-updater", "translations", "import", "sw.po", "--language", "sw", "--yes", "--quiet")
    _judge(
        stage,
        LazyText(N_("import a translation")),
        N_("shown to users"),
        {"texts/sw": {"seizure.artefact": FILLED[1], "seizure.new": "Ukamataji mpya"}},
        () if done else (LazyText(N_("The translator's file lacks the new text.")),),
    )


def after_the_rollback(stage: Stage) -> None:
    """Check that 3.2.4 has its own texts again after the rollback."""
    stage.narrator.say(
        N_(
            "The local overlay of 3.2.4 is back: the fax text, and 'Saved as ...', which"
            " matches again. Newer translations are kept for the next release."
        )
    )
    seen = {
        "texts/sw": {
            "menu.fax": "Tuma kwa faksi",
            "menu.search": "Tafuta",
            "seizure.saved": "Imehifadhiwa: {ref}",
        },
        "texts/fr": {"seizure.new": "Saisir un objet", "menu.search": "Rechercher"},
        "settings": {"lists.rows": ROWS},
    }
    _judge(
        stage, LazyText(N_("local overlay after rollback to 3.2.4")), N_("overlay restored"), seen
    )


def after_the_next(stage: Stage) -> None:
    """Check the overlay after another release with changed texts, two steps further."""
    stage.narrator.say(
        N_(
            "3.4.0 changes texts again and the default length of lists. Local texts stay, and"
            " the translations for 3.3.0 are used."
        )
    )
    seen = {
        "texts/sw": {
            "menu.search": "Tafuta",
            "seizure.artefact": FILLED[1],
            "seizure.photo": "Add a photograph",
            "person.none": "No person of that name",
        },
        "texts/fr": {"seizure.new": "Saisir un objet", "seizure.photo": "Ajouter une photographie"},
        "settings": {"lists.rows": ROWS},
    }
    _judge(stage, LazyText(N_("local overlay with 3.4.0")), N_("kept and merged"), seen)


def _write(stage: Stage, path: str, content: str) -> None:
    (stage.site.country / path).write_text(content, "utf-8")


def _fill(stage: Stage) -> bool:
    """Fill in the exported file like a translator; return False if it lacks the text."""
    place = stage.places.directory / "sw.po"
    text, translation = FILLED
    asked = f'msgid "{text}"\nmsgstr ""\n'
    before = place.read_text("utf-8")
    place.write_text(before.replace(asked, f'msgid "{text}"\nmsgstr "{translation}"\n'), "utf-8")
    return asked in before


def _judge(
    stage: Stage, tried: LazyText, expected: str, seen: Expected, broken: tuple[LazyText, ...] = ()
) -> None:
    """Compare texts and settings of the application with the expected ones, for the table."""
    broken += tuple(differences(stage, seen))
    if not broken:
        for place, texts in seen.items():
            shown = ", ".join(f"{key}: {text}" for key, text in texts.items())
            stage.narrator.good("{place}: {shown}", place=place, shown=shown)
    came = LazyText(N_("wrong")) if broken else LazyText(expected)
    stage.judge(Row(tried, LazyText(expected), came, broken=broken))


def differences(stage: Stage, seen: Expected) -> Iterator[LazyText]:
    """Yield the differences between the application's texts and settings and the expected ones."""
    for place, texts in seen.items():
        connection = http.client.HTTPConnection("127.0.0.1", stage.site.app_port, timeout=30)
        connection.request("GET", f"/{place}")
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        for key, wanted in texts.items():
            section, _, name = key.partition(".")
            got = found.get(section, {}).get(name)
            if got != wanted:
                values = {"place": place, "key": key, "got": got, "wanted": wanted}
                yield LazyText(N_("{place}: {key} is '{got}', expected '{wanted}'"), values)
