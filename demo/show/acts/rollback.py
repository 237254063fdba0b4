"""Act: roll back to 3.2.4 after users worked with 3.3.0, keeping their records."""

from __future__ import annotations

import http.client
import json

from demo.errors import StandInError
from demo.evidence import case_references, parked_rows
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


def play(stage: Stage) -> None:
    """Roll back."""
    site, say = stage.site, stage.narrator.say
    stage.narrator.act(N_("Rollback to 3.2.4 with all new records"))
    say(
        N_(
            "Users have worked with 3.3.0. One of them enters a record about a cultural"
            " artefact, unknown to 3.2.4. Then the site rolls back."
        )
    )
    reference = _enter_cultural_case(stage)
    with stage.trial(
        LazyText(N_("roll back from 3.3.0 to 3.2.4 after users worked")),
        LazyText(N_("3.2.4, new records kept")),
        runs="3.2.4",
        undone=False,
    ) as trial:
        stage.commands.run("ncen-updater", "rollback", "--dry-run", "--quiet")
        ran = stage.commands.run("ncen-updater", "rollback", "--yes", "--quiet")
        trial.ended(ran.status, ExitCode.OK)
        found = case_references(site.databases)
        trial.require(
            all(reference in known for known in found.values()),
            LazyText(N_("Record {ref} is lost."), {"ref": reference}),
        )
    parked = ", ".join(f"{table} ({count})" for table, count in parked_rows(site.databases).items())
    say(
        N_(
            "Record {ref} is still there. Its values without a column in 3.2.4 are saved in the"
            " same database and restored by the next upgrade: {parked}"
        ),
        ref=reference,
        parked=parked,
    )


def _enter_cultural_case(stage: Stage) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", stage.site.front_port, timeout=30)
    fields = {"category": "CULT", "object": "statuette", "family_name": "Ndiaye",
              "own_script_name": "王", "summary": "Statuette in a crate of tiles"}  # fmt: skip
    connection.request("POST", "/cases", json.dumps(fields), {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    if "case_ref" not in answer:
        raise StandInError(part="application", wanted="taking a case", detail=str(answer))
    return str(answer["case_ref"])
