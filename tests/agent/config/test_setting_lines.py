from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.agent.config.setting_lines import SettingPath, find_line, locate_settings

TEXT = '''\
# a comment with [brackets] and = signs
schema = 1

[site]   # and here
id = "a # b"
"odd.name" = 'x'
nested.deep.key = 3
[feed]
text = """
[not.a.table]
key = 1
"""
raw = \'\'\'a"
b\'\'\'\'\'
urls = [
  "one", # the first
  "two",
  [ 3,
    4 ],
]
inline = { a = 1, b.c = [1, 2] }
[ databases . "names" ]
x = "\\" [y]"
[[list]]
name = 1
[[list]]
name = 2
[list.inner]
z = 1
[[list.more]]
q = 1
'''

LINES: dict[SettingPath, int] = {
    ("schema",): 2,
    ("site",): 4,
    ("site", "id"): 5,
    ("site", "odd.name"): 6,
    ("site", "nested", "deep", "key"): 7,
    ("feed",): 8,
    ("feed", "text"): 9,
    ("feed", "raw"): 13,
    ("feed", "urls"): 15,
    ("feed", "urls", 2, 1): 15,
    ("feed", "inline", "b", "c", 1): 21,
    ("databases", "names"): 22,
    ("databases", "names", "x"): 23,
    ("list", 0, "name"): 25,
    ("list", 1, "name"): 27,
    ("list", 1, "inner", "z"): 29,
    ("list", 1, "more", 0, "q"): 31,
}


@pytest.mark.parametrize("path", LINES, ids=str)
def test_each_setting_is_located(path: SettingPath) -> None:
    tomllib.loads(TEXT)  # the sample is TOML
    assert locate_settings(TEXT)[path] == LINES[path]


def test_missing_setting_is_located_at_its_table() -> None:
    lines = locate_settings(TEXT)
    assert find_line(lines, ("site", "country")) == 4
    assert find_line(lines, ("nothing", "here")) is None


def test_setting_names_inside_strings_are_ignored() -> None:
    assert not any("not" in path for path in locate_settings(TEXT))


def test_long_value_ends_the_search() -> None:
    text = "a = 1\nb = [\n" + "1,\n" * 300 + "]\nc = 1\n"
    assert locate_settings(text) == {("a",): 1}


@given(st.text(alphabet="abc.[]{}\"'=#\n ,1\\", max_size=60))
def test_arbitrary_text_is_tolerated(text: str) -> None:
    for line in locate_settings(text).values():
        assert 1 <= line <= text.count("\n") + 1
