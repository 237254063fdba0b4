"""Tests that every event of journal and service is described in the session's language."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import ncen_updater
from ncen_updater.agent.cli.event_text import EVENT_FIELD_LABELS, EVENT_LABELS, format_event
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState
from ncen_updater.agent.engine.steps.outage import CAUSE_BY_START_EVENT, END_EVENTS
from ncen_updater.agent.model.change import ChangeState, StepName, StepState
from tests.agent.cli.site import AT
from tests.support.french import foreign

PACKAGE = Path(ncen_updater.__file__).parent
#: What a place is filled with, in kinds that are put together.
STATES = {"step-": StepState, "change-": ChangeState, "rehearsal-": RehearsalState}
#: Names of kinds and of what they hold that come from elsewhere than the line that writes them.
HANDED_ON = {"kind", "first", "cause.value[0]", "cause.value[1]"}


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Every line that writes an event, and its module."""
    for path in (PACKAGE / "agent").rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = ast.unparse(node.func).rpartition(".")[2]
                if name in ("append_event", "record_event"):
                    yield module, node


def _kinds(module: str, node: ast.expr) -> Iterator[str]:
    """The kinds that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        begin = str(node.values[0].value)
        yield from (f"{begin}{state}" for state in STATES[begin])
    elif isinstance(node, ast.IfExp):
        yield from _kinds(module, node.body)
        yield from _kinds(module, node.orelse)
    elif isinstance(node, ast.Name) and node.id.isupper():
        yield getattr(importlib.import_module(module), node.id)
    else:
        assert ast.unparse(node) in HANDED_ON, f"{module}: {ast.unparse(node)}"


def test_every_event_kind_has_a_label() -> None:
    written = {kind for module, call in _calls() for kind in _kinds(module, call.args[0])}
    written |= CAUSE_BY_START_EVENT.keys() | END_EVENTS  # of ``cause``
    assert len(written) > 40
    assert written - EVENT_LABELS.keys() == set()


def test_every_event_field_has_a_label() -> None:
    written = {word.arg for _, call in _calls() for word in call.keywords if word.arg}
    assert len(written) > 30
    assert written - EVENT_FIELD_LABELS.keys() == set()


@pytest.mark.parametrize("kind", sorted(EVENT_LABELS))
def test_every_event_kind_is_described(kind: str) -> None:
    data = {"error": "Permission denied", "step": "fence", "held": True, "low_s": 0.29}
    said = format_event(AT.isoformat(), kind, data, "fr")
    assert foreign(said) == []
    assert said.startswith("02/01/2026")
    assert said.endswith(
        "fermeture des bases aux connexions, erreur Permission denied, "
        "conforme à la prévision : oui, au moins 0,3 s"
    )
    english = format_event(AT.isoformat(), kind, data, "en")
    assert english.endswith(
        f"  {EVENT_LABELS[kind]}  closing the databases to connections, "
        "error Permission denied, as predicted: yes, at least 0.3 s"
    )


def test_event_values_are_translated_to_french() -> None:
    data: dict[str, object] = dict.fromkeys(EVENT_FIELD_LABELS, "x-1")
    data |= {"step": StepName.CUT_OVER.value, "action": "upgrade", "mode": "migrate", "uid": 7}
    data |= {"fingerprints": {"cases": "00ff"}, "data": {"until": "2026-11-26"}, "reasons": []}
    said = format_event(None, "job-queued", data, "fr")
    assert foreign(said, "cases", "x") == []
    assert "basculement vers les bases migrées" in said
    assert "opération mise à niveau" in said
    assert "empreintes des schémas cases 00ff" in said
    assert "détails jusqu'au 26/11/2026" in said
    assert "motifs -" in said
    # Seen: "méthode migrate".
    started = format_event(None, "change-started", {"mode": "migrate"}, "fr")
    assert started.endswith("bases à migrer")


def test_counts_and_answers_of_events_are_unambiguous() -> None:
    """Seen: "number 1", "measured measured 1.4 s" and "at most 58 s, at least 0.4 s"."""
    assert format_event(None, "x", {"count": 1}, "en") == "-  x  count: 1"
    data = {"actual_s": 1.4, "held": True, "high_s": 58, "low_s": 0.4}
    said = format_event(None, "x", data, "en")
    assert said == "-  x  1.4 s, as predicted: yes, at least 0.4 s, at most 58 s"
    predicted = {"high_s": 58, "low_s": 0.4, "rehearsal": "abcdefgh"}
    said = format_event(None, "x", predicted, "en")
    assert said == "-  x  rehearsal abcdefgh, at least 0.4 s, at most 58 s"
