"""Values written on trial: forward, back, forward again, on copies that nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseEngine
from ncen_updater.agent.adapters.databases.round_trip import (
    DatabaseSample,
    RoundTripObservation,
    RoundTripResult,
    RowKeys,
    UntestedCounts,
    find_retyped_columns,
    judge_columns,
)
from ncen_updater.agent.model.errors import MigrationFailedError


def run_round_trip_test(
    engine: DatabaseEngine,
    change: ChangeRef,
    seed: str,
    *,
    upgrade: Callable[[], object],
    roll_back: Callable[[], object],
) -> RoundTripResult:
    """Say what becomes of values that are written in the newer release when one goes back.

    The copies stand at the older release before, and at the newer one afterwards, unless the ways
    stopped. Where the way back does not go with the values, it is tried once more with the least
    ones in all columns whose type is another than before.

    Args:
        engine: The databases.
        change: Whose candidates.
        seed: Another one, other values; two trials in the same copies must differ.
        upgrade: Migrates the candidates to the newer release.
        roll_back: Migrates them to the older one.

    Raises:
        UpdaterError: For anything but a migration that fails.
    """
    older = _read_samples(engine, change)
    upgrade()
    plain = _read_samples(engine, change)
    suspects = {name: find_retyped_columns(older[name], plain[name]) for name in engine.names}
    stopped: MigrationFailedError | None = None
    refusing: Mapping[str, Mapping[str, frozenset[str]]] = {}
    refusals, written = _write_samples(engine, change, seed, {})
    try:
        roll_back()
    except MigrationFailedError as error:
        stopped = error
        if any(suspects.values()):
            try:
                upgrade()  # some databases may have gone back
                refusals, written = _write_samples(engine, change, seed, suspects)
                roll_back()
                stopped, refusing = None, suspects
            except MigrationFailedError as error_again:
                stopped = error_again
    went_back = again = None
    if stopped is None:
        keys = {
            name: {table: tuple(rows.rows) for table, rows in sample.items()}
            for name, sample in written.items()
        }
        went_back = _read_samples(engine, change, keys)
        try:
            upgrade()
            again = _read_samples(engine, change, keys)
        except MigrationFailedError as error:
            stopped = error
    found = tuple(
        column
        for name in engine.names
        for column in judge_columns(
            name,
            RoundTripObservation(
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
    return RoundTripResult(found, f"{stopped.title_text} ({stopped.code})" if stopped else None)


def _read_samples(
    engine: DatabaseEngine, change: ChangeRef, keys: Mapping[str, RowKeys] | None = None
) -> dict[str, DatabaseSample]:
    return {
        name: engine.read_sample(change.get_candidate(name), None if keys is None else keys[name])
        for name in engine.names
    }


def _write_samples(
    engine: DatabaseEngine,
    change: ChangeRef,
    seed: str,
    short: Mapping[str, Mapping[str, frozenset[str]]],
) -> tuple[dict[str, Mapping[str, UntestedCounts]], dict[str, DatabaseSample]]:
    refusals = {
        name: engine.write_sample_values(change.get_candidate(name), seed, short.get(name, {}))
        for name in engine.names
    }
    return refusals, _read_samples(engine, change)
