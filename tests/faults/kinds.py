"""The kinds of release on which faults are tried. A further kind is a line of :data:`KINDS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from demo.releases import declare
from ncen_updater.formats.sql import ENGINE_NAMES
from tests.agent.engine.trial_releases import with_program, write_program
from tests.support.sites import as_code_only

#: What a program that only adds does, and may do again.
ADDS = (
    "CREATE TABLE IF NOT EXISTS came_with_new (id integer PRIMARY KEY)",
    "INSERT INTO came_with_new VALUES (1) ON CONFLICT DO NOTHING",
)
#: What another does once the release was watched, and may do again.
ENDS = (
    "CREATE TABLE IF NOT EXISTS came_later (id integer PRIMARY KEY)",
    "INSERT INTO came_later VALUES (1) ON CONFLICT DO NOTHING",
)


@dataclass(frozen=True)
class Kind:
    """What the new release of a trial changes, and what that asks of the trial.

    Attributes:
        name: For ``--kind``, and in reports.
        made: Makes it of the sources of 3.2.4 under its number; None: it is the stand-in's 3.3.0.
        packs: Whether it comes by a delta pack.
        stays: Whether it works on the databases that there are, so that each cell needs new ones.
        same_rows: Whether it leaves every row as it was.
        engines: On which it can be tried.
        runs_program: Whether a program of its own runs: not as root, see ``support/migrators.py``.
    """

    name: str
    made: Callable[[Path, str], None] | None = None
    packs: bool = False
    stays: bool = False
    same_rows: bool = False
    engines: tuple[str, ...] = tuple(ENGINE_NAMES)
    runs_program: bool = False


def only_code(source: Path, version: str) -> None:
    """A release that says that databases stay as they are."""
    as_code_only(source, version)
    declare(source, 1)


def expands(source: Path, version: str) -> None:
    """A release whose program works on the live databases before the stop."""
    as_code_only(source, version)
    manifest = source / "manifest.toml"
    manifest.write_text(with_program(manifest.read_text("utf-8"), source, ADDS), "utf-8")
    declare(source, 2, 1, expand=True)


def contracts(source: Path, version: str) -> None:
    """The same, with a second program that ends its migrations once it was watched."""
    expands(source, version)
    with (source / "manifest.toml").open("a", encoding="utf-8") as manifest:
        manifest.write('\n[migrator.contract]\nargv = ["bin/contract.py"]\n')
    write_program(source / "bin" / "contract.py", ENDS)


FILES = Kind("files")
KINDS = {
    kind.name: kind
    for kind in (
        FILES,
        Kind("packs", packs=True),
        Kind("code", only_code, stays=True, same_rows=True),
        Kind("expand", expands, stays=True, engines=("postgresql",), runs_program=True),
        Kind("contract", contracts, stays=True, engines=("postgresql",), runs_program=True),
    )
}
