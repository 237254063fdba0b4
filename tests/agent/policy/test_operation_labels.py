"""Tests of the labels of operations in progress."""

from __future__ import annotations

import pytest

from ncen_updater.agent.policy.automation import ServiceAction
from ncen_updater.agent.policy.operation_labels import describe_running_operation, label_operation
from ncen_updater.agent.storage.journal.jobs import JobKind


@pytest.mark.parametrize(
    "name", [*JobKind, *(one for one in ServiceAction if one is not ServiceAction.WAIT)]
)
def test_every_operation_has_a_label(name: str) -> None:
    """Seen: "'prepare' failed", "carries out 'upgrade --yes --scheduled'"."""
    for language in ("en", "fr"):
        assert label_operation(name).render(language) != str(name)
    assert label_operation(name).render("fr") != label_operation(name).render("en")


@pytest.mark.parametrize(
    ("holder", "watched", "words"),
    [
        ("rehearse, process 7", None, "rehearsing a release (process 7)"),
        ("resume, process 7", "3.3.0", "soak period of 3.3.0 (process 7)"),
        ("resume, process 7", None, "resuming a change (process 7)"),
        ("unknown command, process 7", None, "unknown command (process 7)"),
        ("?", None, "Operation in progress: ?"),
    ],
)
def test_running_operation_is_named_by_its_purpose(
    holder: str, watched: str | None, words: str
) -> None:
    """Seen: a rehearsal, and a release that was watched, called "a change at work" (NU-6121)."""
    assert str(describe_running_operation(holder, watched)).endswith(words)
