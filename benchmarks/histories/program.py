"""A local program with open SQLite files, which executes one JSON line after the other.

``python -m benchmarks.histories.program [UID]``: runs as a user of its own, as programs do.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys

from benchmarks.histories.foreign_sessions import SQL


def main() -> None:
    """Open, write and close until standard input ends."""
    if len(sys.argv) > 1:
        user = int(sys.argv[1])
        os.setgid(user)
        os.setuid(user)
    held: dict[str, sqlite3.Connection] = {}
    for line in sys.stdin:
        order = json.loads(line)
        answer = "done"
        try:
            name = order["path"]
            if order["do"] == "open":
                held[name] = sqlite3.connect(f"file:{name}?mode=rw", uri=True, timeout=2)
                held[name].execute("SELECT count(*) FROM ncen_release").fetchall()
            elif order["do"] == "write":
                with held[name] as session:
                    session.execute(SQL[order["database"]].replace("%s", "?"), (order["key"],))
            elif name in held:
                held.pop(name).close()
        except (sqlite3.Error, KeyError) as error:
            answer = repr(error)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
