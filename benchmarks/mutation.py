"""Mutation test of the recovery table and other pure decisions: does a test detect each change?

Each mutant differs from the module in one place. A process of its own runs the module's tests on it
until the first fails; a mutant without a failing test survived. General tools mutate function
bodies only, but the recovery table is data with lambdas: this program also removes and swaps rows.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import finish, print_line

TIMEOUT_S = 60
KILLED, SURVIVED = "killed", "survived"


@dataclass(frozen=True)
class Subject:
    """Module and the tests that must detect its mutants."""

    module: str
    tests: str

    @property
    def path(self) -> Path:
        """Return its path."""
        return Path(self.module.replace(".", "/") + ".py")


SUBJECTS = (
    Subject("ncen_updater.agent.engine.recovery", "tests/agent/engine/test_recovery.py"),
    Subject("ncen_updater.feed.upgrade_path", "tests/feed"),
    Subject("ncen_updater.agent.engine.approvals.approval", "tests/agent/engine/approvals"),
    Subject("ncen_updater.agent.policy.availability", "tests/agent/policy/test_availability.py"),
    Subject(
        "ncen_updater.agent.policy.downtime_prediction", "tests/agent/policy/test_prediction.py"
    ),
    Subject(
        "ncen_updater.agent.policy.restart_policy", "tests/agent/policy/test_restart_policy.py"
    ),
    Subject("ncen_updater.agent.policy.retention", "tests/agent/policy/test_policy.py"),
    Subject("ncen_updater.agent.policy.windows", "tests/agent/policy/test_schedule.py"),
    Subject(
        "ncen_updater.agent.adapters.databases.migrations.planner",
        "tests/agent/adapters/databases/migrations/test_planner.py",
    ),
)

SWAPS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
# Enum members that replace each other in mutants.
MEMBERS = {
    "RecoveryAction": ("NOTHING", "REVERT", "FINISH", "STOP"),
    "CurrentSlot": ("OLD", "NEW", "OTHER"),
    "MigrationDirection": ("UP", "DOWN"),
    "StepState": ("INTENDED", "DONE", "UNDOING", "UNDONE"),
}


@dataclass(frozen=True)
class Mutant:
    """One mutant: place, change and syntax tree."""

    line: int
    what: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all mutants of a module, without changes of annotations, docstrings or messages."""
    tree = ast.parse(source)
    for parent in _walk(tree):
        for name, position, node in _children(parent):
            for replacement in _changed(node, parent, name):
                with _replaced(parent, name, position, replacement) as before:
                    line = getattr(node, "lineno", 0)
                    what = f"{_words(before)} -> {_words(replacement)}"
                    yield Mutant(line, what, ast.fix_missing_locations(copy.deepcopy(tree)))


class _replaced:  # noqa: N801 - reads as a statement
    """Replaces a node during a block; None removes an element from its list."""

    def __init__(
        self, parent: ast.AST, name: str, position: int | None, other: ast.AST | None
    ) -> None:
        self._parent, self._name, self._position, self._other = parent, name, position, other
        self._before = getattr(parent, name)

    def __enter__(self) -> ast.AST:
        if self._position is None:
            setattr(self._parent, self._name, self._other)
            node: ast.AST = self._before
            return node
        changed = list(self._before)
        node = changed[self._position]
        changed[self._position : self._position + 1] = [self._other] if self._other else []
        setattr(self._parent, self._name, changed)
        return node

    def __exit__(self, *_: object) -> None:
        setattr(self._parent, self._name, self._before)


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and all its descendants, outermost first, without skipped ones."""
    yield tree
    for _name, _position, node in list(_children(tree)):
        yield from _walk(node)


def _children(parent: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for name, value in ast.iter_fields(parent):
        if name in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        if isinstance(value, ast.AST):
            yield name, None, value
        elif isinstance(value, list):
            for position, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield name, position, item


def _changed(  # noqa: PLR0912 - one case a kind of change
    node: ast.AST, parent: ast.AST, name: str
) -> Iterator[ast.AST | None]:
    match node:
        case ast.Compare(ops=[operator]):
            for other in SWAPS.get(type(operator), ()):
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            for gone in range(len(node.values)):
                rest = node.values[:gone] + node.values[gone + 1 :]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.UnaryOp(op=ast.USub()):
            yield node.operand
        case ast.IfExp():
            yield ast.IfExp(node.test, node.orelse, node.body)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as number):
            yield ast.Constant(number + 1)
        case ast.Attribute(value=ast.Name(id=kind)) if node.attr in MEMBERS.get(kind, ()):
            for member in MEMBERS[kind]:
                if member != node.attr:
                    yield ast.Attribute(node.value, member, node.ctx)
        case ast.Call(func=ast.Name(id="RecoveryRule")) if isinstance(parent, ast.Tuple):
            yield None
        case ast.Call(func=ast.Name(id="sorted" | "reversed" | "frozenset" | "set" | "tuple")):
            if len(node.args) == 1 and not isinstance(node.args[0], ast.GeneratorExp):
                yield node.args[0]
        case ast.Call(func=ast.Name(id="min" | "max" as function)):
            other_name = "max" if function == "min" else "min"
            yield ast.Call(ast.Name(other_name, ast.Load()), node.args, node.keywords)
        case ast.Call(func=ast.Name(id="any" | "all" as function)):
            other_name = "all" if function == "any" else "any"
            yield ast.Call(ast.Name(other_name, ast.Load()), node.args, node.keywords)
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Return(value=ast.expr() as value) if name == "body" and not _is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign():
            yield ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield ast.Pass()
        case ast.comprehension() if node.ifs:
            yield ast.comprehension(node.target, node.iter, [], node.is_async)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _words(node: ast.AST | None) -> str:
    if node is None:
        return "(taken out)"
    try:
        text = ast.unparse(node)
    except (AttributeError, ValueError):
        text = type(node).__name__
    text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:90]}..."


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a syntax tree instead of its file."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self._module, self._path, self._tree = module, path, tree

    def find_spec(
        self, fullname: str, path: object = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find only that module."""
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Use the default module creation."""

    def exec_module(self, module: types.ModuleType) -> None:
        """Execute the tree."""
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)


def _survives(subject: Subject, tree: ast.Module) -> bool:
    pid = os.fork()
    if pid == 0:
        signal.alarm(TIMEOUT_S)  # detect endless loops
        _silence()
        import pytest

        sys.meta_path.insert(0, _Finder(subject.module, subject.path.absolute(), tree))
        # Libraries are imported before the fork, too early for assertion rewriting.
        ignored = "ignore::pytest.PytestAssertRewriteWarning"
        options = ["-x", "-q", "-p", "no:cacheprovider", "-W", ignored, subject.tests]
        os._exit(int(pytest.main(options)))
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _try(subject: Subject, report: Callable[[str], None]) -> dict[str, object]:
    source = subject.path.read_text("utf-8")
    if not _survives(subject, ast.parse(source)):
        raise SystemExit(f"{subject.tests} fails without any mutation")
    results = {KILLED: 0, SURVIVED: 0}
    for mutant in mutants(source):
        survived = _survives(subject, mutant.tree)
        results[SURVIVED if survived else KILLED] += 1
        if survived:
            report(f"survived: {subject.path}:{mutant.line}: {mutant.what}")
    total = sum(results.values())
    report(f"{subject.path}: {results[KILLED]} of {total} mutants killed")
    return {**results, "score": round(results[KILLED] / total, 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="words of the modules to try; all by default")
    chosen = parser.parse_args(arguments)
    import hypothesis  # noqa: F401 - imported once, before the forks
    import pytest  # noqa: F401 - likewise

    subjects = [s for s in SUBJECTS if not chosen.only or any(w in s.module for w in chosen.only)]
    figures = {subject.module: _try(subject, print_line) for subject in subjects}
    finish("mutation", {"modules": figures, "ratios": {n: f["score"] for n, f in figures.items()}})


if __name__ == "__main__":
    main()
