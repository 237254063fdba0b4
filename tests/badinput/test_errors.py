"""Every error of the package can be shown, whatever it was given."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import ncen_updater
from ncen_updater.common import messages
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import ErrorMessage, find_message
from tests.badinput.hostile import has_four_facts

PACKAGE = Path(ncen_updater.__file__).parent


def _all(kind: type[UpdaterError]) -> Iterator[type[UpdaterError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _all(below)


def error_classes() -> dict[str, type[UpdaterError]]:
    for module in pkgutil.walk_packages(ncen_updater.__path__, "ncen_updater."):
        if module.name.rpartition(".")[2] != "__main__":
            importlib.import_module(module.name)
    return {
        f"{kind.__module__}.{kind.__name__}": kind
        for kind in _all(UpdaterError)
        if kind.__module__[:5] == "ncen_"
    }


CLASSES = error_classes()


MESSAGES = {
    name: value for name, value in vars(messages).items() if isinstance(value, ErrorMessage)
}


def places(message: ErrorMessage) -> set[str]:
    found = set()
    for template in (message.title, message.state or "", message.remedy):
        found |= {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    return found


def _known_names(path: Path) -> dict[str, type[UpdaterError]]:
    """Error classes by the names that a module knows them by; two rooms may share a name."""
    parts = ("ncen_updater", *path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] == "__main__":
        return {}
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, UpdaterError)
    }


def _imported(node: ast.Module) -> dict[str, type[UpdaterError]]:
    """Error classes that a function of the module imports for itself."""
    found = {}
    for item in ast.walk(node):
        if isinstance(item, ast.ImportFrom) and item.module and "errors" in item.module:
            module = importlib.import_module(item.module)
            for alias in item.names:
                value = getattr(module, alias.name)
                if isinstance(value, type) and issubclass(value, UpdaterError):
                    found[alias.asname or alias.name] = value
    return found


def raise_sites() -> Iterator[tuple[str, ErrorMessage, set[str]]]:
    """Every place of the package that makes an error by its name with plain keywords."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        known = {**_imported(tree), **_known_names(path)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            kind = known.get(node.func.id)
            if kind is None or any(word.arg is None for word in node.keywords):
                continue
            first = node.args[0] if node.args else None
            message = MESSAGES.get(first.id) if isinstance(first, ast.Name) else None
            own = kind.__init__ is UpdaterError.__init__
            if message is not None or (own and first is None):
                where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                given = {word.arg for word in node.keywords if word.arg}
                yield where, message or kind.message, given


def test_every_raise_site_fills_its_placeholders() -> None:
    sites = list(raise_sites())
    assert len(sites) > 450
    missing = [
        f"{where}: {message.code} lacks {sorted(places(message) - given)}"
        for where, message, given in sites
        if places(message) - given
    ]
    assert not missing


def test_every_message_is_used() -> None:
    source = "".join(
        path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if path.name != "messages.py"
    )
    names = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", source))
    assert set(MESSAGES) - names == set()


def test_codes_are_unique() -> None:
    by_code: dict[str, set[str]] = {}
    for name, message in MESSAGES.items():
        assert re.fullmatch(r"NU-\d{4}", message.code)
        by_code.setdefault(message.code, set()).add(name)
    shared = {code: names for code, names in by_code.items() if len(names) > 1}
    assert shared == {"NU-1000": {"UNNAMED", "UNEXPECTED"}}
    assert [message.code for message in MESSAGES.values()] == sorted(
        message.code for message in MESSAGES.values()
    )


def test_no_two_error_classes_share_a_message() -> None:
    by_message: dict[str, set[str]] = {}
    for name, kind in CLASSES.items():
        if "message" in vars(kind):
            by_message.setdefault(kind.message.code, set()).add(name)
    assert {code: names for code, names in by_message.items() if len(names) > 1} == {}


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_error_without_values_is_rendered(name: str) -> None:
    has_four_facts(UpdaterError(MESSAGES[name]))


def test_message_is_found_by_code() -> None:
    assert find_message("NU-1000") is messages.UNEXPECTED
    assert find_message("NU-3101") is messages.INSUFFICIENT_SPACE
    assert find_message("NU-0000") is None


@pytest.mark.parametrize(
    ("template", "shown"),
    {
        "a place that nobody filled": ("{missing} is gone", "{missing} is gone"),
        "a place that is an attribute": ("{a.__class__}", "{a.__class__}"),
        "a place that is an item": ("{a[0]}", "{a[0]}"),
        "a width that fills the memory": ("{a:>99999999999}", "{a:>99999999999}"),
        "a brace without its other": ("{a", "{a"),
        "a brace too many": ("a}", "a}"),
        "a number": ("{0} {}", "{0} {}"),
        "all is well": ("{a} and {a}", "1 and 1"),
    }.values(),
)
def test_no_template_fails(template: str, shown: str) -> None:
    assert LazyText(template, {"a": 1}).render() == shown


def test_value_with_braces_is_not_substituted() -> None:
    assert LazyText("{a} {b}", {"a": "{b}", "b": 2}).render() == "{b} 2"


def test_huge_number_is_abbreviated() -> None:
    assert LazyText("{a}", {"a": 10**5000}).render()
