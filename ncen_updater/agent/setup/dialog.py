"""Questions and findings of a setup, shared by the terminal and the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncen_updater.agent.setup.answers import SetupAnswers, find_mistake
from ncen_updater.agent.setup.facts import SiteFacts, gather_facts
from ncen_updater.agent.setup.machine import Machine
from ncen_updater.agent.setup.plan import name_cluster, read_trusted_root, require_account
from ncen_updater.agent.setup.proposal import SiteProposal, make_proposal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText

PRODUCT = "ncen"
#: Maximum length of an answer, in characters.
MAX_TYPED = 500
CERTAINTIES = {
    "seen": N_("sure"), "likely": N_("likely"), "guessed": N_("guess"),
}  # fmt: skip
COMPARE_FINGERPRINT = N_("Compare its fingerprint with the one that the Secretariat reads out:")


class WrongAnswerError(Exception):
    """Wrong answer; the question is asked again.

    Args:
        text: Reason.
    """

    def __init__(self, text: LazyText) -> None:
        super().__init__(str(text))
        self.text = text


@dataclass(frozen=True)
class Question:
    """Question about a setting that setup cannot detect.

    Attributes:
        name: Field name in forms.
        text: Label.
        propose: Returns the default answer; empty if there is none.
        read: Converts an answer to tables of ``setup.toml``.
    """

    name: str
    text: LazyText
    propose: Callable[[SiteFacts], str]
    read: Callable[[str], Mapping[str, Any]]

    def parse(self, typed: str) -> Mapping[str, Any]:
        """Convert an answer to tables of ``setup.toml``.

        Raises:
            WrongAnswerError: If ``setup.toml`` does not allow this answer.
        """
        if len(typed) > MAX_TYPED or not typed.isprintable():
            words = N_("Use at most {limit} printable characters.")
            raise WrongAnswerError(LazyText(words, {"limit": MAX_TYPED}))
        try:
            tables = self.read(typed.strip())
            mistake = find_mistake(tables)
        except UpdaterError as error:
            mistake = error.title_text
        if mistake is not None:
            raise WrongAnswerError(mistake)
        return tables


def _read_trust(text: str) -> Mapping[str, Any]:
    root = Path(text).absolute()
    return {"trust": {"root": root, "fingerprint": read_trusted_root(root)[1]}}


def _read_people(text: str) -> Mapping[str, Any]:
    accounts = [] if text == "none" else text.replace(",", " ").split()
    for account in accounts:
        require_account(account, "people")
    return {"people": {"operators": accounts, "approvers": accounts}}


def _read_hours(text: str) -> Mapping[str, Any]:
    if text == "none":
        return {"windows": []}
    start, _, end = (part.strip() for part in text.partition("-"))
    tables = {"windows": [{"start": start, "end": end}]}
    if find_mistake(tables):
        raise WrongAnswerError(LazyText(N_("Use hours, such as 22:00-04:00.")))
    return tables


#: In the order in which they are asked; the confirmation of the plan follows.
QUESTIONS = (
    Question(
        "site", LazyText(N_("Site ID")), lambda facts: facts.hostname.partition(".")[0],
        lambda text: {"site": {"id": text}},
    ),
    Question(
        "country", LazyText(N_("Country")), lambda facts: facts.country,
        lambda text: {"site": {"country": text.upper()}},
    ),
    Question(
        "feed", LazyText(N_("Feed URL, or 'offline'")), lambda _: "",
        lambda text: {"feed": {"offline": True} if text == "offline" else {"urls": (text,)}},
    ),
    Question(
        "trust", LazyText(N_("Trusted root received from the Secretariat")),
        lambda _: "root.json", _read_trust,
    ),
    Question(
        "people", LazyText(N_("Accounts of operators and approvers, or 'none'")),
        lambda facts: facts.person or "none", _read_people,
    ),
    Question(
        "window", LazyText(N_("Maintenance window, or 'none'")), lambda _: "22:00-04:00",
        _read_hours,
    ),
)  # fmt: skip


def add_tables(given: dict[str, Any], tables: Mapping[str, Any]) -> None:
    """Merge the tables of an answer into the earlier answers."""
    for name, table in tables.items():
        given[name] = {**given.get(name, {}), **table} if isinstance(table, dict) else table


def survey_site(machine: Machine, given: SetupAnswers | None) -> tuple[SiteFacts, SiteProposal]:
    """Inspect the machine and derive a proposal.

    Args:
        machine: The machine.
        given: Answers from a file; None in a dialog.
    """
    named = given.application.get("health_url") if given else None
    cluster = name_cluster(given) if given else None
    facts = gather_facts(machine, [str(named)] if named else [], cluster)
    product = given.site.product if given else PRODUCT
    owner = (given.databases.owner if given else None) or ""
    unit = str(given.application.get("unit", "")) if given else ""
    return facts, make_proposal(facts, product, owner=owner, unit=unit)


def format_found(found: SiteProposal) -> Iterator[LazyText]:
    """Yield each finding with its certainty."""
    for guess in found.guesses:
        values = {
            "name": guess.what,
            "text": guess.value or LazyText(N_("not found")),
            "certainty": LazyText(CERTAINTIES[guess.certainty]),
        }
        words = N_("{name}: {text} ({certainty})") if guess.value else N_("{name}: {text}")
        yield LazyText(words, values)
