"""Values written on trial: forward, back, forward again, on copies that nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseEngine
from ncen_updater.agent.adapters.databases.tried import (
    Keys,
    Refusals,
    Sample,
    Sight,
    TriedValues,
    judge,
    retyped,
)
from ncen_updater.agent.model.errors import MigrationFailed


def try_values(
    engine: DatabaseEngine,
    change: ChangeRef,
    seed: str,
    *,
    up: Callable[[], object],
    back: Callable[[], object],
) -> TriedValues:
    """Say what becomes of values that are written in the newer release when one goes back.

    The copies stand at the older release before, and at the newer one afterwards, unless the ways
    stopped. Where the way back does not go with the values, it is tried once more with the least
    ones in all columns whose type is another than before.

    Args:
        engine: The databases.
        change: Whose candidates.
        seed: Another one, other values; two trials in the same copies must differ.
        up: Migrates the candidates to the newer release.
        back: Migrates them to the older one.

    Raises:
        UpdaterError: For anything but a migration that fails.
    """
    older = _samples(engine, change)
    up()
    plain = _samples(engine, change)
    suspects = {name: retyped(older[name], plain[name]) for name in engine.names}
    stopped: MigrationFailed | None = None
    refusing: Mapping[str, Mapping[str, frozenset[str]]] = {}
    refusals, written = _write(engine, change, seed, {})
    try:
        back()
    except MigrationFailed as error:
        stopped = error
        if any(suspects.values()):
            try:
                up()  # some databases may have gone back
                refusals, written = _write(engine, change, seed, suspects)
                back()
                stopped, refusing = None, suspects
            except MigrationFailed as error_again:
                stopped = error_again
    went_back = again = None
    if stopped is None:
        keys = {
            name: {table: tuple(rows.rows) for table, rows in sample.items()}
            for name, sample in written.items()
        }
        went_back = _samples(engine, change, keys)
        try:
            up()
            again = _samples(engine, change, keys)
        except MigrationFailed as error:
            stopped = error
    found = tuple(
        column
        for name in engine.names
        for column in judge(
            name,
            Sight(
                older[name],
                plain[name],
                written[name],
                refusals[name],
                went_back[name] if went_back is not None else None,
                again[name] if again is not None else None,
                refusing.get(name, {}),
            ),
        )
    )
    return TriedValues(found, f"{stopped.what_text} ({stopped.code})" if stopped else None)


def _samples(
    engine: DatabaseEngine, change: ChangeRef, keys: Mapping[str, Keys] | None = None
) -> dict[str, Sample]:
    return {
        name: engine.sample(change.candidate(name), None if keys is None else keys[name])
        for name in engine.names
    }


def _write(
    engine: DatabaseEngine,
    change: ChangeRef,
    seed: str,
    short: Mapping[str, Mapping[str, frozenset[str]]],
) -> tuple[dict[str, Mapping[str, Refusals]], dict[str, Sample]]:
    refusals = {
        name: engine.write_values(change.candidate(name), seed, short.get(name, {}))
        for name in engine.names
    }
    return refusals, _samples(engine, change)
