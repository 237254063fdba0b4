"""A language is signed after its release, as releases are, and officers see it without a stop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from demo.show.acts.own_words import differences
from demo.show.acts.signing import digest_of_event, sign_and_publish
from demo.show.report import Row
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, Text

EVENT = "events/3-language"
#: What a translator made of some texts of 3.3.0; nobody ships Portuguese.
PORTUGUESE: Mapping[str, Any] = {
    "menu": {"search": "Procurar pessoas e processos"},
    "seizure": {"new": "Nova apreensão", "saved": "Guardado como {ref} por {officer}"},
}
SEEN = {
    "menu.search": "Procurar pessoas e processos",
    "seizure.new": "Nova apreensão",
    "seizure.artefact": "Cultural artefact",
}


def play(stage: Stage) -> None:
    """Sign and publish a language of 3.3.0, and take it."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("A language is signed after its release"))
    say(
        N_(
            "Portuguese came too late for 3.3.0. It needs no new release: officers sign it by "
            "itself, with the same keys, and a site takes it while officers work."
        )
    )
    (stage.places.directory / "pt.json").write_text(json.dumps(PORTUGUESE, indent=2), "utf-8")
    (stage.places.directory / "languages").mkdir()
    run("ncen-publisher", "language", "add", "pt", "pt.json", "--version", "3.3.0",
        "--feed", "feed", "--staging", "languages", limit=6)  # fmt: skip
    run("ncen-publisher", "draft", "--feed", "feed", "--event", EVENT, "--staging", "languages",
        limit=10)  # fmt: skip
    digest = digest_of_event(stage, EVENT)
    broken = sign_and_publish(stage, EVENT, digest, ("amina", "chen"), ("languages",))
    run("ncen-updater", "check", "--quiet", limit=6)
    run("ncen-updater", "translations", "take", "pt", "--yes", "--quiet")
    seen = {"texts/pt": SEEN}
    broken += tuple(differences(stage, seen))
    if not broken:
        shown = ", ".join(f"{key}: {text}" for key, text in SEEN.items())
        stage.narrator.good("{place}: {shown}", place="texts/pt", shown=shown)
    expected = Text(N_("refused, until a second signs; then officers see it"))
    stage.judge(
        Row(
            Text(N_("a language of 3.3.0, signed by one of three")),
            expected,
            expected if not broken else Text(N_("not as it should be")),
            broken=broken,
        )
    )
