"""Data loss of a ``down`` file, found by reading it with its ``up`` file. Pure; runs no SQL.

A rollback keeps what users entered since the upgrade only if the ``down`` file parks the values
that the old schema cannot hold: in the schema ``ncen_kept`` on PostgreSQL, in tables
``ncen_kept__...`` on SQLite. The publisher's ``lint`` and the agent's rollback both use this
module. It works on words, with :mod:`ncen_updater.formats.sql`, without a catalogue. In doubt it
reports an object, which the author then parks or declares in ``data_loss``. It reads neither
functions and ``DO`` blocks, nor what happens to rows that are copied into a rebuilt table.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from ncen_updater.formats.sql import list_names
from ncen_updater.formats.statement_parsing import (
    NO_COLUMNS,
    Assignment,
    TokenizedStatement,
    Update,
    get_last_part,
    is_literal,
    iter_conflict_updates,
    parse_alter_table,
    parse_columns,
    parse_created_table,
    parse_inserted_table,
    parse_merge,
    parse_name,
    parse_update,
    parse_with_parts,
    read_statements,
    skip_words,
    split_at_commas,
    split_row_changes,
    unquote,
)

#: Where a down migration parks values: a schema on PostgreSQL, a table name prefix on SQLite.
_PARKING_PREFIXES: Final = ("NCEN_KEPT.", "NCEN_KEPT__")
_RANK: Final = {
    "INT2": 2, "SMALLINT": 2, "INT4": 4, "INT": 4, "INTEGER": 4, "INT8": 8, "BIGINT": 8,
    "NUMERIC": 16, "DECIMAL": 16,
}  # fmt: skip
#: Dropping one of these with CASCADE can also drop columns and tables.
_DEPENDENT_OBJECTS: Final = frozenset(
    {"COLLATION", "DOMAIN", "EXTENSION", "FOREIGN", "SERVER", "TYPE"}
)


class LossKind(StrEnum):
    """Effect of a down migration on an object."""

    COLUMN = "column"  # drops the column
    TABLE = "table"  # drops the table
    SCHEMA = "schema"  # drops the schema with all its tables
    DEPENDENTS = "dependents"  # drops an object with dependent tables or columns, such as a type
    ROWS = "rows"  # deletes rows
    VALUES = "values"  # overwrites values
    NARROWER = "narrower"  # changes the type to one that may not hold all values
    REFUSES = "refuses"  # adds a constraint that rows may violate; the rollback would fail
    DECLARED = "declared"  # declared by the release


@dataclass(frozen=True)
class DataLoss:
    """One object of which a down migration may lose data.

    Attributes:
        table: As written, in lower case, without quotes and without ``public``.
        column: The column; None for whole rows.
        kind: What happens to the object.
        line: Line of the statement in the ``down`` file; 0 if the release declares the loss.
        is_release_table: Whether the release itself fills the table, so that all its rows may be
            the release's.
        cascades: Whether rows of referencing tables are deleted too, regardless of their foreign
            keys.
    """

    table: str
    column: str | None
    kind: LossKind
    line: int = 0
    is_release_table: bool = False
    cascades: bool = False

    @property
    def needs_catalog(self) -> bool:
        """Return whether further objects may be lost, which only the catalogue can name."""
        return self.kind in (LossKind.DEPENDENTS, LossKind.ROWS, LossKind.SCHEMA)

    @property
    def object_name(self) -> str:
        """Return the object's name for display: ``declarations.country``."""
        return f"{self.table}.{self.column}" if self.column else self.table


def parse_declared_loss(name: str) -> DataLoss:
    """Return the data loss for a declared ``table`` or ``table.column``."""
    table, _, column = name.lower().rpartition(".")
    return DataLoss(table or column, column if table else None, LossKind.DECLARED)


def find_data_loss(up: str, down: str, engine: str) -> tuple[DataLoss, ...]:
    """Return the data losses of a down migration, in the order of its statements.

    Args:
        up: Text of the ``up`` file.
        down: Text of the ``down`` file.
        engine: ``postgresql`` or ``sqlite``.
    """
    return read_down_migration(up, down, engine)[0]


def read_down_migration(up: str, down: str, engine: str) -> tuple[tuple[DataLoss, ...], Renames]:
    """Return the data losses and the renames of a down migration; see :func:`find_data_loss`."""
    reader = _DownMigrationReader(
        _UpMigration(read_statements(up, engine)), read_statements(down, engine)
    )
    losses = tuple(dict.fromkeys(reader.find_losses()))
    return losses, reader.list_renames()


@dataclass(frozen=True)
class Renames:
    """Names of objects before a down migration, by their names after it; columns with tables.

    A table that the migration makes, as the rebuilt form of another one, counts under its own name.
    """

    tables: dict[str, str]
    columns: dict[tuple[str, str], str]


class LiveNames:
    """Names of objects before a series of down migrations, by their names within the series."""

    def __init__(self) -> None:
        self._tables: dict[str, str] = {}
        self._columns: dict[tuple[str, str], str] = {}

    def translate(self, loss: DataLoss) -> DataLoss:
        """Return a loss of the next down migration, with the names before the series."""
        column = loss.column and self._columns.get((loss.table, loss.column), loss.column)
        return replace(loss, table=self._tables.get(loss.table, loss.table), column=column)

    def add(self, renames: Renames) -> None:
        """Follow the renames of the next down migration."""
        tables = renames.tables
        after = {old: new for new, old in tables.items()}
        known = {
            (after.get(table, table), name): old for (table, name), old in self._columns.items()
        }
        for (table, new), old in renames.columns.items():
            before = tables.get(table, table), old
            known[table, new] = self._columns.get(before, old)
        self._columns = known
        self._tables |= {new: self._tables.get(old, old) for new, old in tables.items()}


def is_plain(sql: str, engine: str) -> bool:
    """Return whether this reader interprets each name in a file as the engine does."""
    for statement in read_statements(sql, engine):
        if statement.starts("SET") or not _UNREADABLE_WORDS.isdisjoint(statement.words):
            return False
        if not _UNREADABLE_PAIRS.isdisjoint(itertools.pairwise(statement.words)):
            return False
    for name in list_names(sql, engine):
        inside = name[1:-1] if name[0] in '"`[' else ""
        # The reader compares names in upper case and without quotes. An engine may preserve the
        # case of quoted names, and no engine folds letters beyond ASCII.
        if inside.upper() in _NAME_PRECEDING_WORDS or inside != inside.lower():
            return False
        if not name.isascii() or len(name) > _LONGEST_NAME:
            return False
    return True


def _read_from(words: Sequence[str], parts: dict[str, list[str]]) -> tuple[set[str], set[str]]:
    """Return the tables that a query reads, and all its words, including the WITH parts it uses."""
    todo, sources, value = [list(words)], set[str](), set[str]()
    rest = dict(parts)
    while todo:
        part = todo.pop()
        value |= {unquote(word) for word in part}
        depth, condition = 0, len(part)
        for place, word in enumerate(part):
            depth += (word == "(") - (word == ")")
            if word in ("HAVING", "ON", "WHERE"):
                condition = min(condition, depth)
            elif depth < condition or (word == "UNION" and depth == condition):
                condition = len(part)
            # A condition only selects rows by another table.
            if word not in ("FROM", "TABLE") or depth >= condition:
                continue
            name, _ = parse_name(part, skip_words(part, place + 1, "ONLY", "IF", "NOT", "EXISTS"))
            if name.startswith(_PARKING_PREFIXES):
                continue
            if name in parts:
                todo += [rest.pop(name)] if name in rest else []
            else:
                sources.add(name)
    return sources, value


@dataclass
class _UpMigration:
    """The effects of an ``up`` file that matter for its down migration."""

    statements: list[TokenizedStatement]
    added: dict[str, set[str]] = field(default_factory=dict)
    generated: set[tuple[str, str]] = field(default_factory=set)
    # by table and column (empty if not named): the first values of inserted rows
    seeded: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    types: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    exchanges: set[tuple[str | None, ...]] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for statement in self.statements:
            created, update = parse_created_table(statement), parse_update(statement)
            if created is not None:
                columns = parse_columns(statement, created[1])
                self.added.setdefault(created[0], set()).update(columns)
            elif update is not None:
                for item in update.sets:
                    if pair := _exchange(item, update.where):
                        self.exchanges.add((update.table, item.column, *pair))
            elif statement.starts("ALTER", "TABLE"):
                self._note_alter_table(statement)
            elif statement.starts("DROP", "TABLE"):
                place = skip_words(statement.words, 2, "IF", "EXISTS")
                self.dropped |= {
                    parse_name(part, 0)[0] for part in split_at_commas(statement.words[place:])
                }
            elif statement.starts("INSERT", "INTO") and "VALUES" in statement.words:
                table, place = parse_name(statement.words, 2)
                column = unquote(statement.at(place + 1)) if statement.at(place) == "(" else ""
                rows = statement.words[statement.words.index("VALUES") :]
                self.seeded.setdefault(table, {}).setdefault(column, set()).update(
                    value
                    for before, bracket, value in zip(rows, rows[1:], rows[2:], strict=False)
                    if before in ("VALUES", ",") and bracket == "(" and is_literal(value)
                )

    def _note_alter_table(self, statement: TokenizedStatement) -> None:
        table, actions = parse_alter_table(statement)
        for action in actions:
            if action[:2] == ["RENAME", "TO"]:
                new, _ = parse_name(action, 2)
                self.added.setdefault(new, set()).update(self.added.get(table, ()))
            elif action[:1] == ["ADD"]:
                column = _parse_added_column(action)
                if column is not None:
                    self.added.setdefault(table, set()).add(column)
                    if ("AS", "(") in itertools.pairwise(action):
                        self.generated.add((table, column))
            elif retyped := _parse_type_change(action):
                self.types[table, retyped[0]] = retyped[1]


def _parse_added_column(action: Sequence[str]) -> str | None:
    if action[1:2] and action[1] in NO_COLUMNS:
        return None
    place = skip_words(action, 1, "COLUMN", "IF", "NOT", "EXISTS")
    return unquote(action[place]) if place < len(action) else None


def _parse_type_change(action: Sequence[str]) -> tuple[str, list[str], bool] | None:
    """Return the column, its new type, and whether its values are only cast to that type."""
    if action[:1] != ["ALTER"]:
        return None
    place = skip_words(action, 1, "COLUMN")
    after = skip_words(action, place + 1, "SET", "DATA")
    if action[after : after + 1] != ["TYPE"]:
        return None
    kind = list(action[after + 1 :])
    reckoned = kind[kind.index("USING") + 1 :] if "USING" in kind else []
    for word in ("USING", "COLLATE"):
        kind = kind[: kind.index(word)] if word in kind else kind
    column = action[place]
    cast = [column, ":", ":", *kind], ["CAST", "(", column, "AS", *kind, ")"]
    return unquote(column), kind, reckoned in ([], [column], *cast)


def _holds_all(new: Sequence[str], old: Sequence[str] | None) -> bool:
    """Return whether a type is known to hold all values of another type."""
    head = new[0] if new else ""
    plain = len(new) == 1 or list(new) == ["CHARACTER", "VARYING"]
    if plain and (head in ("TEXT", "VARCHAR") or len(new) == 2):
        return True
    if not old:
        return False
    # Not a DOUBLE PRECISION as NUMERIC: PostgreSQL rounds it to 15 digits.
    if plain and old[1:2] in ([], ["("]) and head in _RANK and old[0] in _RANK:
        return _RANK[head] >= _RANK[old[0]]
    sizes = [[float(word) for word in kind if word.isdecimal()] for kind in (new, old)]
    same = [[word for word in kind if not word.isdecimal()] for kind in (new, old)]
    if same[0] == same[1] and len(sizes[0]) == len(sizes[1]) == 1:
        return sizes[0] >= sizes[1]
    return list(new) == list(old)


class _DownMigrationReader:
    """Finds the data losses of a ``down`` file, statement by statement."""

    def __init__(self, up: _UpMigration, down: list[TokenizedStatement]) -> None:
        self._up, self._down = up, down
        self._parks = 0
        # by word: the numbers of the parking statements that contain it
        self._parked_words: defaultdict[str, set[int]] = defaultdict(set)
        self._sources: set[str] = set()
        # by parking table: the tables whose rows it has
        self._waiting: defaultdict[str, set[str]] = defaultdict(set)
        self._renames: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for number, statement in enumerate(down):
            if statement.starts("ALTER", "TABLE"):
                old, actions = parse_alter_table(statement)
                for action in actions:
                    if action[:2] == ["RENAME", "TO"]:
                        self._renames[parse_name(action, 2)[0]].append((number, old))
        self._made: dict[str, frozenset[str]] = {}
        self._added: set[tuple[str, str]] = set()
        self._tables: dict[str, str] = {}  # by new name: the table's name before the down migration
        self._columns: dict[tuple[str, str], str] = {}
        self._touched: set[str] = set()
        self._filled: set[tuple[str, str]] = set()

    def find_losses(self) -> Iterator[DataLoss]:
        for number, statement in enumerate(self._down):
            parts, acts = parse_with_parts(statement), split_row_changes(statement)
            # All parts of one statement read the data from before the statement.
            for act in [act for act in acts if not self._is_parking(act, parts)]:
                yield from self._find_in_row_change(number, act)

    def list_renames(self) -> Renames:
        """Return the renames of the file, once :meth:`find_losses` has read it."""
        tables = {
            new.lower(): old.lower() for new, old in self._tables.items() if new not in self._made
        }
        columns = {
            (table.lower(), new.lower()): old.lower()
            for (table, new), old in self._columns.items()
            if table not in self._made
        }
        return Renames(tables, columns)

    def _find_in_row_change(self, number: int, statement: TokenizedStatement) -> Iterator[DataLoss]:
        words = statement.words
        if words[:1] == ["CREATE"]:
            yield from self._find_in_create(statement)
        elif words[:1] == ["ALTER"]:
            yield from self._find_in_alter(statement)
        elif words[:1] == ["DROP"]:
            yield from self._find_in_drop(number, statement)
        elif words[:1] == ["TRUNCATE"]:
            yield from self._find_in_truncate(statement)
        elif words[:2] == ["DELETE", "FROM"]:
            yield from self._find_in_delete(
                statement, *parse_name(words, skip_words(words, 2, "ONLY"))
            )
        elif words[:1] == ["MERGE"]:
            table, deletes, sets = parse_merge(statement)
            yield from self._find_in_delete(statement, table) if deletes else ()
            yield from self._find_in_update(statement, Update(table, sets, []))
        elif words[:1] in (["INSERT"], ["REPLACE"]):
            if "REPLACE" in words[:3]:
                yield from self._find_in_delete(statement, parse_inserted_table(words)[0])
            for update in iter_conflict_updates(statement):
                yield from self._find_in_update(statement, update)
        elif (written := parse_update(statement)) is not None:
            yield from self._find_in_delete(statement, written.table) if written.replaces else ()
            yield from self._find_in_update(statement, written)

    def _find_in_create(self, statement: TokenizedStatement) -> Iterator[DataLoss]:
        words = statement.words
        if (created := parse_created_table(statement)) is not None:
            # With IF NOT EXISTS the table may have existed before.
            if "EXISTS" not in words[:7] or created[0] in self._up.dropped:
                self._made[created[0]] = parse_columns(statement, created[1])
        elif statement.starts("CREATE", "UNIQUE", "INDEX") and "ON" in words:
            place = skip_words(words, words.index("ON") + 1, "ONLY")
            yield from self._find_in_constraint(parse_name(words, place)[0], statement.line)

    def _find_in_alter(self, statement: TokenizedStatement) -> Iterator[DataLoss]:
        if statement.starts("ALTER", "TABLE"):
            yield from self._find_in_alter_table(statement)
        elif statement.starts("ALTER", "TYPE") and "ATTRIBUTE" in statement.words:
            name, place = parse_name(statement.words, 2)
            if statement.at(place) != "ADD":
                yield DataLoss(name.lower(), None, LossKind.DEPENDENTS, statement.line)

    def _find_in_drop(self, number: int, statement: TokenizedStatement) -> Iterator[DataLoss]:
        words = statement.words
        what = words[1:3] if statement.starts("DROP", "OWNED") else words[1:2]
        listed = words[skip_words(words, 1 + len(what), "IF", "EXISTS") :]
        if what == ["TABLE"]:
            yield from self._find_in_dropped_table(number, statement)
        elif what == ["SCHEMA"]:
            for name in (parse_name(part, 0)[0] for part in split_at_commas(listed)):
                if f"{name}." in _PARKING_PREFIXES:
                    yield from self._find_discarded_parking(None, statement.line)
                else:
                    yield DataLoss(name.lower(), None, LossKind.SCHEMA, statement.line)
        elif what == ["OWNED", "BY"] or (
            what and what[0] in _DEPENDENT_OBJECTS and "CASCADE" in words
        ):
            for part in split_at_commas(listed):
                name, _ = parse_name(part, 0)
                yield DataLoss(name.lower(), None, LossKind.DEPENDENTS, statement.line)

    def _find_in_truncate(self, statement: TokenizedStatement) -> Iterator[DataLoss]:
        words = statement.words
        for part in split_at_commas(words[skip_words(words, 1, "TABLE") :]):
            table, _ = parse_name(part, skip_words(part, 0, "ONLY"))
            if "CASCADE" in words and table not in self._made:
                self._touched.add(table)
                yield replace(
                    self._make_loss(table, None, LossKind.ROWS, statement.line), cascades=True
                )
                continue
            if table.startswith(_PARKING_PREFIXES):
                yield from self._find_discarded_parking(table, statement.line)
            yield from self._find_in_delete(statement, table)

    # ---- parked values ---------------------------------------------------------------------------

    def _is_parking(self, statement: TokenizedStatement, parts: dict[str, list[str]]) -> bool:
        """Return whether a statement parks values, and record the words in it."""
        words = statement.words
        table = ""
        if created := parse_created_table(statement):
            table = created[0]
        elif statement.starts("INSERT") or statement.starts("REPLACE"):
            table = parse_inserted_table(words)[0]
        elif statement.starts("SELECT") and "INTO" in words:
            place = skip_words(words, words.index("INTO") + 1, "TABLE", "UNLOGGED")
            table, _ = parse_name(words, place)
        elif update := parse_update(statement):
            return update.table.startswith(_PARKING_PREFIXES)
        if not table.startswith(_PARKING_PREFIXES):
            return False
        sources, value = _read_from(words, parts)
        self._parks += 1
        for word in value:
            self._parked_words[word].add(self._parks)
        self._sources |= sources
        self._waiting[table] |= sources or {table}
        return True

    def _is_parked(self, table: str, column: str | None = None) -> bool:
        if table.startswith(_PARKING_PREFIXES) or column is None:
            # For a table its rows must be read; a value may also come from a join or a subquery.
            return table.startswith(_PARKING_PREFIXES) or table in self._sources
        value = self._parked_words.get(get_last_part(table), set())
        return not all(value.isdisjoint(self._parked_words.get(word, ())) for word in ("*", column))

    # ---- data loss -------------------------------------------------------------------------------

    def _find_in_alter_table(self, statement: TokenizedStatement) -> Iterator[DataLoss]:
        table, actions = parse_alter_table(statement)
        for action in actions:
            if action[:1] == ["DROP"]:
                place = skip_words(action, 1, "COLUMN", "IF", "EXISTS")
                if action[1:2] != ["CONSTRAINT"]:
                    # A column may have one of the skipped names.
                    column = unquote(action[min(place, len(action) - 1)])
                    yield from self._find_in_dropped_column(table, column, statement.line)
            elif action[:1] == ["ADD"]:
                yield from self._find_in_added_constraint(table, action, statement.line)
            elif retyped := _parse_type_change(action):
                column, kind, same = retyped
                holds = same and _holds_all(kind, self._up.types.get((table, column)))
                if not holds and not self._is_parked(table, column):
                    yield self._make_loss(table, column, LossKind.NARROWER, statement.line)
            elif action[:1] == ["ALTER"] and action[-3:] == ["SET", "NOT", "NULL"]:
                column = unquote(action[-4])
                if (table, column) not in self._filled:
                    yield self._make_loss(table, column, LossKind.REFUSES, statement.line)
            elif action[:2] == ["VALIDATE", "CONSTRAINT"]:
                yield from self._find_in_constraint(table, statement.line)
            elif action[:1] == ["RENAME"] or action[:2] == ["SET", "SCHEMA"]:
                self._note_rename(table, action)

    def _note_rename(self, table: str, action: Sequence[str]) -> None:
        if action[1:2] in (["TO"], ["SCHEMA"]):
            name = [".", get_last_part(table)] if action[1] == "SCHEMA" else []
            new, _ = parse_name([*action[2:], *name], 0)
            if table in self._made:
                self._made[new] = self._made.pop(table)
            self._tables[new] = self._tables.pop(table, table)
            self._columns = {
                (new if owner == table else owner, column): old
                for (owner, column), old in self._columns.items()
            }
            if new.startswith(_PARKING_PREFIXES):
                self._waiting[new].add(self._tables[new])
            return
        place = skip_words(action, 1, "COLUMN")
        if action[place + 1 : place + 2] == ["TO"] and len(action) > place + 2:
            old, new = unquote(action[place]), unquote(action[place + 2])
            self._columns[table, new] = self._columns.pop((table, old), old)

    def _make_loss(
        self, table: str, column: str | None, how: LossKind, line: int, own: bool = False
    ) -> DataLoss:
        """Return a loss with the object's name from before the down migration."""
        if column is not None:
            column = self._columns.get((table, column), column).lower()
        return DataLoss(self._tables.get(table, table).lower(), column, how, line, own)

    def _find_in_added_constraint(
        self, table: str, action: Sequence[str], line: int
    ) -> Iterator[DataLoss]:
        column = _parse_added_column(action)
        if column is not None:
            self._added.add((table, column))
        elif action[-2:] != ["NOT", "VALID"]:
            yield from self._find_in_constraint(table, line)

    def _find_in_constraint(self, table: str, line: int) -> Iterator[DataLoss]:
        if table not in self._touched and table not in self._made:
            yield self._make_loss(table, None, LossKind.REFUSES, line)

    def _find_in_dropped_column(self, table: str, column: str, line: int) -> Iterator[DataLoss]:
        known = (table, column)
        harmless = known in self._up.generated or known in self._added or table in self._made
        names = {column, self._columns.get((table, column), column)}
        if not harmless and not any(self._is_parked(table, name) for name in names):
            yield self._make_loss(table, column, LossKind.COLUMN, line)

    def _find_in_dropped_table(
        self, number: int, statement: TokenizedStatement
    ) -> Iterator[DataLoss]:
        place = skip_words(statement.words, 2, "IF", "EXISTS")
        for part in split_at_commas(statement.words[place:]):
            table, _ = parse_name(part, 0)
            if table.startswith(_PARKING_PREFIXES):
                yield from self._find_discarded_parking(table, statement.line)
                continue
            before = self._tables.get(table, table)
            rebuilt = (
                self._made.get(before)
                if before != table
                else self._find_rebuilt_columns(number, table)
            )
            if rebuilt is not None:
                for column in sorted(self._up.added.get(before, set()) - rebuilt):
                    if (before, column) not in self._up.generated and not any(
                        self._is_parked(name, column) for name in (table, before)
                    ):
                        yield self._make_loss(table, column, LossKind.COLUMN, statement.line)
            elif table not in self._made and not self._is_parked(table):
                own = table in self._up.seeded
                yield self._make_loss(table, None, LossKind.TABLE, statement.line, own)

    def _find_discarded_parking(self, table: str | None, line: int) -> Iterator[DataLoss]:
        """Yield the losses if parking tables are emptied or dropped."""
        for name in [table] if table is not None else list(self._waiting):
            for source in sorted(self._waiting.pop(name, ())):
                yield DataLoss(source.lower(), None, LossKind.ROWS, line)

    def _find_rebuilt_columns(self, number: int, table: str) -> frozenset[str] | None:
        """Return the columns of the table that replaces a dropped one; None if there is none."""
        renames = self._renames.get(table, [])
        after = bisect_left(renames, (number + 1, ""))
        return self._made.get(renames[after][1]) if after < len(renames) else None

    def _find_in_delete(
        self, statement: TokenizedStatement, table: str, place: int | None = None
    ) -> Iterator[DataLoss]:
        self._touched.add(table)
        if table.startswith(_PARKING_PREFIXES) and statement.starts("DELETE"):
            yield from self._find_discarded_parking(table, statement.line)
        if table in self._made or self._is_parked(table):
            return
        where = statement.words[place:] if place is not None else []
        if _selects_own_rows(where, self._up.seeded.get(table, {})):
            return  # the condition selects only rows that the up migration inserted
        yield self._make_loss(table, None, LossKind.ROWS, statement.line)

    def _find_in_update(self, statement: TokenizedStatement, update: Update) -> Iterator[DataLoss]:
        self._touched.add(update.table)
        for item in update.sets:
            self._filled.add((update.table, item.column))
            if not self._is_overwriting(update, item):
                continue
            yield self._make_loss(update.table, item.column, LossKind.VALUES, statement.line)

    def _is_overwriting(self, update: Update, item: Assignment) -> bool:
        table, column, where = update.table, item.column, update.where
        if table in self._made or (table, column) in self._added or self._is_parked(table, column):
            return False
        if _selects_empty_only(update, column):
            return False  # the UPDATE only fills NULL values
        written, before = _exchange(item, where) or (None, None)
        return (table, column, before, written) not in self._up.exchanges


def _split_conditions(where: Sequence[str]) -> list[list[str]]:
    """Return the conditions that must all hold; none if they may be alternatives."""
    depth = 0
    parts: list[list[str]] = [[]]
    for word in where:
        depth += (word == "(") - (word == ")")
        if not depth and word in ("CASE", "OR"):
            return []
        if not depth and word == "RETURNING":
            break
        if not depth and word == "AND":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _selects_empty_only(update: Update, column: str) -> bool:
    """Return whether an UPDATE writes only to rows in which a column is NULL."""
    empty = [column, "IS", "NULL"]
    forms = empty, *([name, ".", *empty] for name in update.called)
    return any(part in forms for part in _split_conditions(update.where))


def _selects_own_rows(where: Sequence[str], seeded: dict[str, set[str]]) -> bool:
    """Return whether a condition selects rows by the first values of rows that ``up`` inserted.

    The first column is assumed to identify a row.
    """
    for part in _split_conditions(where[1:]) if where[:1] == ["WHERE"] else ():
        column, *test = part[2:] if part[1:2] == ["."] else part or [""]
        values = [word for word in test if is_literal(word)]
        own = seeded.get(unquote(column), set()) | seeded.get("", set())
        form = [word for word in test if word not in values]
        listed = ["IN", "(", *[","] * (len(values) - 1), ")"]
        is_equality = form == ["="] and len(values) == 1
        if own.issuperset(values) and (is_equality or form == listed):
            return True
    return False


def _exchange(item: Assignment, where: Sequence[str]) -> tuple[str, str] | None:
    """Return the literal that an UPDATE writes, and the literal that it replaces.

    Both are '' if the UPDATE writes to all rows.

    One UPDATE reverses another if both write to all rows, so that the value is the release's own,
    or if they exchange two values.
    """
    if len(item.value) != 1 or not is_literal(item.value[0]):
        return None
    if not where:
        return "", ""
    is_equality = len(where) == 3 and list(where[:2]) == [item.column, "="]
    return (item.value[0], where[2]) if is_equality else None


#: If a file contains one of these, a name may refer to another table, or one table fill another.
_UNREADABLE_WORDS: Final = frozenset(
    {
        "ATTACH", "CALL", "DO", "EXECUTE", "INHERIT", "INHERITS", "LOAD", "PARTITION", "RESET",
        "RULE", "SEARCH_PATH", "SET_CONFIG", "TRIGGER",
    }
)  # fmt: skip
#: Pairs with the same effect: a renamed table frees its name, and ``public`` may not come first.
_UNREADABLE_PAIRS: Final = frozenset(
    {
        ("RENAME", "TO"), ("SET", "SCHEMA"), ("DROP", "SCHEMA"), ("DROP", "OWNED"), ("U", "&"),
        ("PUBLIC", "."), ("MAIN", "."),
    }
)  # fmt: skip
#: Keywords by which this reader finds names; a quoted column with such a name would mislead it.
_NAME_PRECEDING_WORDS: Final = frozenset(
    {
        "ADD", "ALTER", "AND", "AS", "COLUMN", "CREATE", "DELETE", "DROP", "EXISTS", "FROM", "IF",
        "IN", "INSERT", "INTO", "IS", "JOIN", "NOT", "NULL", "ON", "ONLY", "OR", "REFERENCES",
        "RENAME", "RETURNING", "SELECT", "SET", "TABLE", "TO", "UPDATE", "USING", "WHERE", "WITH",
    }
)  # fmt: skip
#: PostgreSQL truncates longer names.
_LONGEST_NAME: Final = 63
