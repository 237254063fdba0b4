"""Tests that each error class is caught somewhere, or has its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent.parent
PRODUCT = HERE / "ncen_updater"
#: Who catches: not tests, which can ask for the message (``tests/support/errors.py``).
CATCHERS = ("ncen_updater", "demo", "benchmarks")
#: Classes that no code catches by name, and the reasons.
REASONS = {
    "FeedFileMissingError": "the TUF client catches its parent, which is the library's",
    "RequestRefusedError": "what the API refuses: each member has its own status",
    "TextError": "gives other classes a reason that is translated",
    "InvalidValueError": "pydantic catches its parent, ValueError",
    "_AskAgainError": "click's prompt catches its parent, and asks again",
    "ReportedError": "says the words of the service as they came",
}


def _names(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            yield part.id if isinstance(part, ast.Name) else part.attr


def _caught(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is not None:
            yield from _names(node.type)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func).rpartition(".")[2] in (
                "isinstance",
                "suppress",
                "report_errors",
            ):
                yield from (name for item in node.args for name in _names(item))
            for word in node.keywords:  # which errors of another process arrive as themselves
                yield from _names(word.value) if word.arg == "expected_errors" else ()
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            # Kinds that are gathered to be caught, and tables by class.
            tables: list[ast.expr | None] = []
            if isinstance(node.value, ast.Tuple):
                tables.append(node.value)
            elif isinstance(node.value, ast.Dict):
                tables += node.value.keys
            yield from (name for key in tables if key is not None for name in _names(key))


def _errors(trees: list[ast.AST]) -> set[str]:
    bases = {
        node.name: [ast.unparse(base).rpartition(".")[2] for base in node.bases]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def is_error(name: str, below: tuple[str, ...] = ()) -> bool:
        if name not in bases:
            return name.endswith(("Error", "Exception"))
        # A class may have the name of the library's class that it is of.
        return any(is_error(base, (*below, name)) for base in bases[name] if base not in below)

    return {name for name in bases if is_error(name)}


def uncaught(product: Path, catchers: list[Path]) -> set[str]:
    """Return the product's classes of errors that none of the catchers names."""

    def trees(directory: Path) -> list[ast.AST]:
        return [ast.parse(path.read_text("utf-8")) for path in sorted(directory.rglob("*.py"))]

    parsed = {place: trees(place) for place in {product, *catchers}}
    caught = {name for place in catchers for tree in parsed[place] for name in _caught(tree)}
    return _errors(parsed[product]) - caught


def test_each_error_class_is_caught_or_justified() -> None:
    assert uncaught(PRODUCT, [HERE / name for name in CATCHERS]) == set(REASONS)


def test_uncaught_class_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "class First(OSError):\n    pass\n\n\nclass Second(First):\n    pass\n\n\n"
        "try:\n    print()\nexcept First:\n    raise Second\n",
        encoding="utf-8",
    )
    assert uncaught(tmp_path, [tmp_path]) == {"Second"}
