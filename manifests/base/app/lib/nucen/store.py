"""The three databases, in either engine: a few kept connections, one retry when they break."""

import queue
import sqlite3

KEPT = 4


class Store:
    """One database. ``address`` is a libpq connection string or the path of an SQLite file."""

    def __init__(self, engine, name, address):
        self.engine, self.name, self.address = engine, name, address
        self.idle = queue.LifoQueue(KEPT)
        if engine == "postgresql":
            import psycopg

            self.broken = psycopg.OperationalError
            self.errors = psycopg.Error
        else:
            self.broken = sqlite3.OperationalError
            self.errors = sqlite3.Error

    def _open(self):
        if self.engine == "postgresql":
            import psycopg

            return psycopg.connect(self.address, connect_timeout=5)
        # mode=rw: a missing file is an error, never a new and empty database.
        connection = sqlite3.connect(
            f"file:{self.address}?mode=rw", uri=True, timeout=10, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def run(self, work):
        """Call ``work(execute)`` in one transaction; once more if the connection had broken.

        A database that was renamed under a kept connection shows itself by an error at first use.
        """
        try:
            return self._once(work)
        except self.broken:
            self._forget()
            return self._once(work)

    def _once(self, work):
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = self._open()

        def execute(sql, values=()):
            if self.engine == "postgresql":
                return connection.execute(sql.replace("?", "%s"), values)
            return connection.execute(sql, values)

        try:
            result = work(execute)
            connection.commit()
        except BaseException:
            connection.close()
            raise
        try:
            self.idle.put_nowait(connection)
        except queue.Full:
            connection.close()
        return result

    def _forget(self):
        while True:
            try:
                self.idle.get_nowait().close()
            except queue.Empty:
                return
            except self.errors:
                continue

    def rows(self, sql, values=()):
        return self.run(lambda execute: execute(sql, values).fetchall())

    def release(self):
        return self.rows("SELECT release FROM ncen_release")[0][0]

    def takes_writes(self, token):
        """Write a row and delete it, and fill a new table, in one transaction that is committed.

        The row alone would find room in pages that the table has, also on a disk that is full.
        """

        def probe(execute):
            execute("INSERT INTO ncen_write_probe VALUES (?)", (token,))
            execute("DELETE FROM ncen_write_probe WHERE token = ?", (token,))
            if self.engine == "postgresql":  # SQLite needs room for its journal in any case
                numbers = "SELECT generate_series(1, 2000)"
                execute(f"CREATE TEMP TABLE ncen_room ON COMMIT DROP AS {numbers}")

        self.run(probe)
        return True
