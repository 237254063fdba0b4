"""SQL words for statements that take no parameters (ALTER DATABASE and its like). All pure."""

from __future__ import annotations

# Settings that the server stores as a list of quoted identifiers (its flag GUC_LIST_QUOTE; the
# same list as in pg_dump). To quote such a value once more would make one element of it.
LIST_SETTINGS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)


def identifier(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as an SQL literal, right whatever ``standard_conforming_strings`` says."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def split_list(value: str) -> list[str]:
    """Split a stored list of identifiers: ``"$user", public`` to its two names."""
    items: list[str] = []
    current = ""
    quoted = False
    index = 0
    while index < len(value):
        letter = value[index]
        if letter == '"' and quoted and value[index + 1 : index + 2] == '"':
            current += '"'
            index += 1
        elif letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            items.append(current)
            current = ""
        elif quoted or not letter.isspace():
            current += letter
        index += 1
    items.append(current)
    return items


def setting_value(name: str, value: str) -> str:
    """Return the right-hand side of ``SET name TO`` for a stored value."""
    if name.lower() in LIST_SETTINGS:
        return ", ".join(literal(item) for item in split_list(value))
    return literal(value)
