"""The stand-in nCEN: a small web application over three databases. Not the WCO's program.

Run by ``ncenctl`` with the path of the pid file. Its configuration is the JSON file that the
environment variable NCEN_CONFIG names; it belongs to the country and lies outside the slot.
"""

import configparser
import html
import json
import os
import secrets
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nucen import cases, icomm  # noqa: E402
from nucen.faults import Faults  # noqa: E402
from nucen.store import Store  # noqa: E402

APP = Path(__file__).resolve().parent.parent.parent
DATABASES = ("seizures", "suspects", "companies")
MAX_BODY = 100_000


class Site:
    """Configuration, databases and the maintenance page, for all requests."""

    def __init__(self, config):
        self.config = config
        release = json.loads((APP / "release.json").read_text("utf-8"))
        self.version = release["version"]
        self.schema = release.get("schema", self.version)  # one that changes only the code says so
        self.faults = Faults(APP)
        self.maintenance_file = Path(config["maintenance_file"])
        engine = config["engine"]
        self.stores = {n: Store(engine, n, config["databases"][n]) for n in DATABASES}
        self.ended = threading.Event()
        self.opened_at = None
        self.errors = self.stores["seizures"].errors

    def in_maintenance(self):
        closed = self.maintenance_file.exists()
        if not closed and self.opened_at is None:
            self.opened_at = time.monotonic()
        return closed

    def watch_maintenance(self):
        """Notice when users come in, for the release that turns bad some time later."""
        while not self.ended.wait(0.1):
            self.in_maintenance()

    def has_turned_unhealthy(self):
        after = self.faults.bad_after_open_seconds
        return (
            after is not None
            and self.opened_at is not None
            and time.monotonic() - self.opened_at >= after
        )

    def carried(self, path):
        """A file that the country may word again: the merged one, where the site has one."""
        merged = Path(self.config.get("texts", "/nonexistent")) / "app" / path
        return merged if merged.is_file() else APP / path

    def texts(self, language):
        """What users read in a language: its own texts, else those of the first language."""
        found = json.loads((APP / "i18n" / "en.json").read_text("utf-8"))
        path = self.carried(f"i18n/{language}.json")
        if language.isalnum() and path.is_file():
            found = over(found, json.loads(path.read_text("utf-8")))
        return found

    def settings(self):
        """Settings in use, by section."""
        parser = configparser.RawConfigParser()
        parser.read(self.carried("settings.ini"), "utf-8")
        return {name: dict(parser.items(name)) for name in parser.sections()}

    def health(self):
        """Look at everything again: (status, facts)."""
        problems = []
        releases, writes = {}, {}
        for name, store in self.stores.items():
            try:
                releases[name] = store.release()
                writes[name] = store.takes_writes(secrets.token_hex(8))
            except (self.errors, IndexError) as error:
                writes[name] = False
                problems.append(f"{name}: {str(error).strip()}")
        schema = releases.get("seizures", "?") if len(set(releases.values())) == 1 else "mixed"
        if not problems and schema != self.schema:
            problems.append(f"the databases say {releases}, the code is of {self.schema}")
        if self.faults.never_healthy:
            problems.append("still starting")
        if self.has_turned_unhealthy():
            problems.append("out of workers")
        facts = {
            "product": "ncen (stand-in)",
            "version": self.faults.report_version or self.version,
            "schema": self.version if schema == self.schema else schema,
            "schemas": releases,
            "writes": writes,
            "writes_ok": len(writes) == len(DATABASES) and all(writes.values()),
            "maintenance": self.in_maintenance(),
            "problems": problems,
        }
        return (503 if problems else 200), facts


def over(first, second):
    """Put one table of texts over another."""
    for key, value in second.items():
        below = first.get(key)
        first[key] = over(below, value) if isinstance(below, dict) else value
    return first


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format, *args):
        pass

    def answer(self, status, body, kind="application/json"):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind + "; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def refuse_users(self, query):
        """Keep users out; the agent's probes (?probe=1) read, from this machine."""
        if not self.site.in_maintenance():
            return False
        if "probe" in query and self.command == "GET" and self.client_address[0] == "127.0.0.1":
            return False
        self.answer(503, {"error": "maintenance"})
        return True

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if url.path == "/healthz":
            return self.answer(*self.site.health())
        if self.refuse_users(query):
            return None
        if self.site.has_turned_unhealthy():
            return self.answer(503, {"error": "out of workers"})
        try:
            return self.read(url.path, query)
        except self.site.errors as error:
            return self.answer(503, {"error": str(error).strip()})

    def read(self, path, query):
        stores, schema = self.site.stores, self.site.schema
        if path == "/cases":
            return self.answer(200, {"cases": cases.listing(stores)})
        if path.startswith("/cases/"):
            case = cases.detail(stores, path.removeprefix("/cases/"))
            return self.answer(200, case) if case else self.answer(404, {"error": "no such case"})
        if path == "/search":
            found = cases.search(stores, query.get("q", [""])[0], schema)
            return self.answer(200, {"persons": found})
        if path.startswith("/texts/"):
            return self.answer(200, self.site.texts(path.removeprefix("/texts/")))
        if path == "/settings":
            return self.answer(200, self.site.settings())
        if path == "/":
            return self.answer(200, self.page(), "text/html")
        return self.answer(404, {"error": "no such page"})

    def page(self):
        words = self.site.config.get("translations", {})
        title = words.get("title", "nCEN (stand-in)")
        count = self.site.stores["seizures"].rows("SELECT count(*) FROM cases")[0][0]
        rows = "".join(
            f"<tr><td>{html.escape(c['case_ref'])}<td>{html.escape(c['summary'] or '')}"
            for c in cases.listing(self.site.stores)
        )
        return (
            f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>"
            f"<h1>{html.escape(title)} {self.site.version}</h1>"
            f"<p>{count} {html.escape(words.get('cases', 'cases'))}</p><table>{rows}</table>"
        ).encode()

    def do_POST(self):
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            return self.answer(413, {"error": "too long"})
        body = self.rfile.read(length)
        if self.refuse_users({}):
            return None
        if self.site.has_turned_unhealthy():
            return self.answer(503, {"error": "out of workers"})
        if urlsplit(self.path).path != "/cases":
            return self.answer(404, {"error": "no such page"})
        try:
            fields = json.loads(body or b"{}")
            if not isinstance(fields, dict):
                raise ValueError
        except ValueError:
            return self.answer(400, {"error": "not a JSON object"})
        site = self.site
        try:
            ref = cases.create(site.stores, site.config["country"], fields, site.schema)
        except site.errors as error:
            return self.answer(503, {"error": str(error).strip()})
        return self.answer(201, {"case_ref": ref})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main(pid_file):
    config = json.loads(Path(os.environ["NCEN_CONFIG"]).read_text("utf-8"))
    site = Site(config)
    site.faults.arrange(Path(config["overlay"]) / "photos")
    Handler.site = site
    server = Server((config.get("host", "127.0.0.1"), config["port"]), Handler)

    def end(*_):
        site.ended.set()
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, end)
    ticks = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]
    temporary = pid_file.with_suffix(".pid-new")
    temporary.write_text(f"{os.getpid()} {ticks}\n")
    temporary.replace(pid_file)
    outbox = Path(config["overlay"]) / "icomm-outbox.jsonl"
    threading.Thread(target=site.watch_maintenance, daemon=True).start()
    if config.get("icomm", True):
        threading.Thread(
            target=icomm.run,
            args=(site.stores["seizures"], outbox, site.in_maintenance, site.ended),
            daemon=True,
        ).start()
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
