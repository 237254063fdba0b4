"""Icomm, acted: queued mail is taken from the queue and written to a file in the overlay.

Nothing leaves while the maintenance page is on: an upgrade must neither send nor repeat a message.
"""

import json
import time
from datetime import datetime, timezone
from pathlib import Path

BATCH = 50
PAUSE_SECONDS = 0.2


def send_some(store, outbox: Path) -> int:
    """Mark a batch as sent, then write it; a crash in between loses a copy, never sends twice."""
    now = datetime.now(timezone.utc)
    stamp = now if store.engine == "postgresql" else now.isoformat()

    def take(execute):
        rows = execute(
            "SELECT id, case_ref, recipient, subject FROM icomm_queue"
            " WHERE sent_at IS NULL ORDER BY id LIMIT ?",
            (BATCH,),
        ).fetchall()
        for row in rows:
            execute("UPDATE icomm_queue SET sent_at = ? WHERE id = ?", (stamp, row[0]))
        return rows

    rows = store.run(take)
    if rows:
        with outbox.open("a", encoding="utf-8") as stream:
            for row in rows:
                stream.write(json.dumps(list(row)) + "\n")
    return len(rows)


def run(store, outbox: Path, in_maintenance, ended) -> None:
    """Send until ``ended`` is set; an error of the database is shown and tried again."""
    while not ended.wait(PAUSE_SECONDS):
        if in_maintenance():
            continue
        try:
            send_some(store, outbox)
        except store.errors as error:
            print(f"icomm: {error}", flush=True)
            time.sleep(PAUSE_SECONDS)
