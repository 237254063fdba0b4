"""A sandbox site of an integrator: disposable, with an ``agent.toml`` like every site.

Only the settings that a trial needs are read here; the agent validates the file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncen_updater.common.bounded_io import (
    SecretExposedError,
    SecretUnreadableError,
    parse_toml,
    read_file,
    read_secret_file,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import SANDBOX_UNUSABLE
from ncen_updater.publisher.errors import describe_system_error

MAX_CONFIG_BYTES = 1_000_000
#: Initial root metadata of a feed.
FIRST_ROOT = "metadata/1.root.json"
LOOPBACK = frozenset({"127.0.0.1", "localhost"})
COMMAND_LIMIT_S = 300.0
POLL_S = 0.2
#: As for the agent's own commands.
INHERITED_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ")


@dataclass(frozen=True)
class SandboxSite:
    """A disposable site.

    Attributes:
        config: Its ``agent.toml``.
        trusted_root: Path of its trusted root metadata, which may be missing.
        port: Local port of its feed URL.
        product: Its product.
        application: The table ``[application]``.
        current: Link to the installed release.
        root: Base of its relative paths.
    """

    config: Path
    trusted_root: Path
    port: int
    product: str
    application: dict[str, Any]
    current: Path
    root: Path = Path("/")

    def trusts(self, feed: Path) -> bool:
        """Return whether the site trusts this feed, that is, was used in a trial with it."""
        try:
            return self.trusted_root.read_bytes() == (feed / FIRST_ROOT).read_bytes()
        except OSError:
            return False

    def is_running(self) -> bool:
        """Return whether the application is running."""
        return self._run_command(self.application["status"], "status") == 0

    def start_application(self) -> None:
        """Start the application and its parts, and wait until it is healthy.

        Raises:
            UpdaterError: If a command fails, or the application is not healthy in time.
        """
        for words in self._list_commands("start"):
            self._run_required(words, "start")
        url = str(self.application.get("health_url", "")).rstrip("/")
        url += str(self.application.get("health_path", "/healthz"))
        limit = time.monotonic() + float(self.application.get("health_timeout_s", 120))
        while not self._is_answering(url):
            if time.monotonic() > limit:
                raise self._make_error(f"no healthy response from {url} after the start")
            time.sleep(POLL_S)

    def stop_application(self) -> None:
        """Stop the application, the last part first.

        Raises:
            UpdaterError: If a command fails.
        """
        for words in reversed(self._list_commands("stop")):
            self._run_required(words, "stop")

    def _is_answering(self, url: str) -> bool:
        """Return whether the health check succeeds, with the site's headers and token."""
        request = urllib.request.Request(url)  # noqa: S310 - of the site's own file
        headers = self.application.get("health_headers", {})
        for name, value in (headers if isinstance(headers, dict) else {}).items():
            request.add_unredirected_header(str(name), str(value))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            if "health_token_file" in self.application:
                token = read_secret_file(self.root / str(self.application["health_token_file"]))
                scheme = self.application.get("health_token_scheme", "Bearer")
                request.add_unredirected_header("Authorization", f"{scheme} {token.strip()}")
            with opener.open(request, timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError, SecretExposedError, SecretUnreadableError):
            return False

    def _list_commands(self, act: str) -> list[list[str]]:
        parts = self.application.get("parts", [])
        return [self.application[act], *(part[act] for part in parts if act in part)]

    def _run_required(self, words: list[str], act: str) -> None:
        status = self._run_command(words, act)
        if status != 0:
            raise self._make_error(f"its command '{act}' ended with {status}")

    def _run_command(self, words: list[str], act: str) -> int:
        own = strip_own_libraries(os.environ)
        environment = {name: own[name] for name in INHERITED_VARIABLES if name in own}
        environment |= {k: str(v) for k, v in self.application.get("environment", {}).items()}
        environment["NCEN_CURRENT"] = str(self.current)
        environment["NCEN_MAINTENANCE_FILE"] = str(self.application.get("maintenance_file", ""))
        try:
            return subprocess.run(
                words, env=environment, cwd="/", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=COMMAND_LIMIT_S, check=False, start_new_session=True,
            ).returncode  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._make_error(
                f"its command '{act}' cannot be run: {describe_system_error(error)}"
            ) from error

    def _make_error(self, reason: str) -> UpdaterError:
        return UpdaterError(SANDBOX_UNUSABLE, path=self.config, reason=reason)


def strip_own_libraries(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment whose PATH has the base Python instead of the virtual environment.

    With the publisher's own environment in PATH, a release that lacks a library would find it there
    and behave differently than at a site.
    """
    own, made_of = f"{sys.prefix}/bin", f"{sys.base_prefix}/bin"
    places = environment.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(made_of if place.rstrip("/") == own else place for place in places)
    return {**environment, "PATH": path}


def load_sandbox(path: Path, feed: Path) -> SandboxSite:
    """Load the site's file; refuse a site that may be in production.

    Args:
        path: The file.
        feed: Feed of an earlier trial, which may not exist; a site that trusts it is a sandbox.

    Raises:
        UpdaterError: If the site is not a sandbox.
    """

    def refused(reason: str) -> UpdaterError:
        return UpdaterError(SANDBOX_UNUSABLE, path=path, reason=reason)

    try:
        data = parse_toml(read_file(path, MAX_CONFIG_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValueError) as error:
        raise refused(describe_system_error(error)) from error

    def table(name: str) -> dict[str, Any]:
        found = data.get(name, {})
        return found if isinstance(found, dict) else {}

    paths, application = table("paths"), table("application")
    root = Path(str(paths.get("root", "/")))
    if not root.is_absolute() or root == Path("/"):
        raise refused("'root' in [paths] must be its own directory, such as /home/me/site")
    state = root / str(paths.get("state", "var/lib/ncen-updater"))
    trusted = root / str(paths.get("trusted_root", "etc/ncen-updater/trust/root.json"))
    known = SandboxSite(path, trusted, 0, "", {}, root).trusts(feed)
    for place in () if known else (state, trusted):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise refused(f"an agent uses or has used {place}: make a fresh copy")
    urls = table("feed").get("urls", [])
    address = urllib.parse.urlsplit(str(urls[0]) if isinstance(urls, list) and urls else "")
    try:
        port = address.port
    except ValueError:
        port = None
    plain = address.scheme == "http" and address.path in ("", "/")
    if len(urls) != 1 or not plain or address.hostname not in LOOPBACK or not port:
        raise refused("'urls' in [feed] must be one local port: [\"http://127.0.0.1:8930/\"]")
    commands = [application.get(act) for act in ("start", "stop", "status")]
    if application.get("adapter") != "command" or not all(isinstance(c, list) for c in commands):
        raise refused("[application] needs adapter = \"command\" with 'start', 'stop', 'status'")
    product = str(table("site").get("product", "ncen"))
    current = root / str(paths.get("current", "opt/ncen/current"))
    return SandboxSite(path.absolute(), trusted, port, product, application, current, root)
