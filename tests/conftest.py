"""Fixtures for all tests, and setup of a test run."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.workermanage import WorkerController

from demo.embedded_postgres import EmbeddedPostgres, PostgresBinaries
from tests.support.postgres import SHARED, available, running
from tests.support.rotation import (
    EITHER_ENGINE,
    IN_TURNS,
    SEED,
    Kinds,
    in_shares,
    is_skipped,
    long_modules,
    one_of_each,
    seed,
    weight,
)
from tests.support.run_directory import GROUND, lay_ground
from tests.support.trees import remove_tree
from tests.support.unclosed import watch_connections

#: Thresholds of the cyclic garbage collector.
SELDOM = (50_000, 20, 20)
#: Directory of this run if it is in memory, and the result of the run.
OURS = pytest.StashKey[Path]()
ENDED = pytest.StashKey[int]()
#: Whether a worker of this run died.
DIED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, help="chooses what this run tries of what is tried in turns"
    )
    parser.addoption(
        "--ground",
        choices=("auto", "memory", "disk"),
        default=os.environ.get(GROUND, "auto"),
        help="where sites and servers are laid out; auto: in memory where there is room",
    )
    parser.addoption(
        "--in-turns",
        action="store_true",
        help="of what is tried in turns the part that the seed chooses",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed and the run directory before collection.

    Worker processes read both from their environment.
    """
    # The many processes of a run need the bytecode cache; script/test does the same.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # With the default threshold of 700 objects, garbage collection takes a tenth of the run.
    gc.set_threshold(*SELDOM)
    watch_connections()
    # On a loaded machine the duration of an example has no meaning.
    hypothesis.settings.register_profile(
        "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("tests")
    for mark in (IN_TURNS, EITHER_ENGINE):
        config.addinivalue_line("markers", f"{mark}: see tests/support/rotation.py")
    if _is_worker(config):
        return
    given = config.getoption("--seed")
    if given is not None:
        os.environ[SEED] = str(given)
    os.environ.setdefault(SEED, str(secrets.randbelow(1_000_000)))
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(seed())
    if config.option.basetemp is None and not config.option.collectonly:
        ground = lay_ground(config.getoption("--ground"))
        config.option.basetemp = str(ground / "t")
        os.environ[SHARED] = str(ground)
        config.stash[OURS] = ground


def pytest_report_header(config: pytest.Config) -> str:
    ground = config.stash.get(OURS, None) or config.option.basetemp
    return f"seed: {seed()} (the same again: --seed {seed()}), ground: {ground}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the seed and the directory of a failed run."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"This run had --seed {seed()}.")
        if OURS in config.stash:
            terminalreporter.write_line(
                f"What failed is kept in {config.stash[OURS]} until the next run."
            )


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController, error: object) -> None:
    """Note that a worker died: its tests are lost, and xdist reports only failed tests."""
    if error is not None:
        node.config.stash[DIED] = True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.stash.get(DIED, False):
        session.exitstatus = exitstatus = pytest.ExitCode.INTERNAL_ERROR
    session.config.stash[ENDED] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    if OURS in config.stash and config.stash.get(ENDED, None) != pytest.ExitCode.TESTS_FAILED:
        remove_tree(config.stash[OURS])


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Freeze the items after the collection, so that the garbage collector does not scan them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start long modules first if workers share a run, so that none is left at the end."""
    if config.getoption("--in-turns"):
        kind = Kinds()
        kinds = {item: kind(item) for item in items}
        runs = {kinds[item] for item in items if not is_skipped(item)}
        able = [item for item in items if not is_skipped(item) or kinds[item] not in runs]
        chosen = one_of_each(able, kinds.__getitem__, weight)
        chosen = in_shares(chosen, lambda item: item.nodeid, long_modules())
        left = {id(item) for item in chosen}
        config.hook.pytest_deselected(items=[item for item in items if id(item) not in left])
        items[:] = chosen
    if _is_worker(config):
        rank = {name: number for number, name in enumerate(long_modules())}
        items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[PostgresBinaries], EmbeddedPostgres]]:
    """Return a function that starts, on first use, the one server of a major version.

    Every server is started at most once, whatever the order of the tests.
    """
    made: dict[int, EmbeddedPostgres] = {}
    with contextlib.ExitStack() as stack:

        def server(binaries: PostgresBinaries) -> EmbeddedPostgres:
            if binaries.major not in made:
                # For root the server runs as nobody, who may not enter pytest's directory.
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="nu-test-"))
                made[binaries.major] = stack.enter_context(running(binaries, Path(directory)))
            return made[binaries.major]

        yield server


@pytest.fixture(scope="session", params=available(), ids=lambda b: f"pg{b.major}")
def postgres(
    request: pytest.FixtureRequest, servers: Callable[[PostgresBinaries], EmbeddedPostgres]
) -> EmbeddedPostgres:
    """Return a running server, one for each major version found."""
    return servers(request.param)
