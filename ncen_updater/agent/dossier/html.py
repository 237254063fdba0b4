"""Elements of a page. Text goes in as text and is escaped when the tree is written: by design."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from xml.etree import ElementTree as Tree

from ncen_updater.agent.approvals.model import Approval
from ncen_updater.common.cli.render import clean

__all__ = ["ARROW", "Child", "element", "grid", "mark", "pairs", "paragraphs", "write"]

Child = Tree.Element | str
ARROW = "\u2192"
DOCTYPE = b"<!DOCTYPE html>\n"


def element(tag: str, *children: Child, **attributes: str) -> Tree.Element:
    """Return an element; ``class_`` stands for the attribute ``class``.

    Args:
        tag: Its name, one of ours.
        children: Elements, and text that may come from anywhere.
        attributes: Their values are ours, never a value of the site.
    """
    made = Tree.Element(tag, {key.rstrip("_"): value for key, value in attributes.items()})
    last: Tree.Element | None = None
    for child in children:
        if isinstance(child, Tree.Element):
            made.append(child)
            last = child
        elif last is None:
            made.text = (made.text or "") + clean(child)
        else:
            last.tail = (last.tail or "") + clean(child)
    return made


def mark(approvals: Iterable[Approval], not_before: datetime | None) -> str:
    """Return what tells a page with other approvals or another time from this one; pure."""
    rows = [[a.who, a.uid, a.at.isoformat()] for a in approvals]
    content = json.dumps([rows, not_before.isoformat() if not_before else None]).encode()
    return hashlib.sha256(content).hexdigest()


def paragraphs(text: str) -> list[Tree.Element]:
    """Return a text as paragraphs, one for each of its blocks."""
    blocks = [block.strip() for block in clean(text).split("\n\n")]
    return [element("p", block, class_="note") for block in blocks if block]


def grid(heading: Iterable[str], rows: Iterable[Iterable[Child]], class_: str = "") -> Tree.Element:
    """Return a table with a row of headings, repeated on each printed page."""
    head = element("tr", *(element("th", cell) for cell in heading))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    attributes = {"class_": class_} if class_ else {}
    return element("table", element("thead", head), element("tbody", *body), **attributes)


def pairs(rows: Iterable[tuple[str, Child]]) -> Tree.Element:
    """Return a table of names and values."""
    lines = [element("tr", element("th", name), element("td", value)) for name, value in rows]
    return element("table", element("tbody", *lines), class_="pairs")


def write(root: Tree.Element) -> bytes:
    """Return a page as UTF-8. What no encoding can hold is shown as a question mark."""
    text = Tree.tostring(root, encoding="unicode", method="html")
    return DOCTYPE + text.encode("utf-8", "replace") + b"\n"
