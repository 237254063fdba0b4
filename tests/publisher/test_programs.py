"""Programs of a release, whether they may be run as they lie or not: each is seen, none drowns."""

from __future__ import annotations

import pytest

from ncen_updater.publisher.review.programs import MOST_PLACES, named_as_program, programs_told

WORDS = "WARNING: other programs than before: {paths}"


def told(*paths: str) -> list[str]:
    return [text.render().removeprefix("WARNING: ") for text in programs_told(paths, WORDS)]


@pytest.mark.parametrize(
    "path",
    ["a.py", "a/b.SH", "x.pl", "x.rb", "x.js", "x.php", "x.so", "lib/x.so.6.1", "x.jar", "X.class",
     "x.pyc", "x.pth", "x.war", "units/x.service", "web/.htaccess", "x.whl"],
)  # fmt: skip
def test_what_is_named_as_a_program_is_one(path: str) -> None:
    assert named_as_program(path)


@pytest.mark.parametrize("path", ["x.txt", "py", "x.py.txt", "a.json", "x.so.txt", "x.css", "so.6"])
def test_what_is_not(path: str) -> None:
    assert not named_as_program(path)


def test_few_are_told_by_name() -> None:
    assert told() == []
    assert told("b.py", "lib/a.py") == ["other programs than before: b.py, lib/a.py"]


def test_many_are_counted_where_they_lie_and_none_is_left_out() -> None:
    paths = [f"app/lib/m{number:03}.py" for number in range(300)]
    said = told(*paths, "app/beacon.py", "start.sh", "stop.sh")
    assert said == [
        "other programs than before: app/beacon.py",
        "other programs than before: 300 in app/lib/, such as m000.py, m001.py, m002.py",
        "other programs than before: start.sh, stop.sh",
    ]


def test_many_places_become_few() -> None:
    paths = [f"app/{place}/deep/{name}.py" for place in range(40) for name in "ab"]
    assert told(*paths) == [
        "other programs than before: 80 in app/, such as 0/deep/a.py, 0/deep/b.py, 1/deep/a.py"
    ]
    assert len(told(*paths, *(f"x{place}/a.py" for place in range(40)))) <= MOST_PLACES
