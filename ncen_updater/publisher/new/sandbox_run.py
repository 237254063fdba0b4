"""Complete trial of a release on a sandbox site: upgrade and rollback by the agent itself.

The agent runs as a process, as a user would start it; none of its modules are imported. If the
application changed its own schema, the trial suggests the declaration for the manifest.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.messages import MIGRATION_FAILED, SANDBOX_UNUSABLE, ExitCode
from ncen_updater.formats.manifest import SelfManagedObject
from ncen_updater.publisher.errors import describe_system_error
from ncen_updater.publisher.new.sandbox_site import SandboxSite, strip_own_libraries

#: Code of the agent's finding that a schema differs from the record.
SCHEMA_CHANGED = "NU-6106"


def suggest_declarations(findings: Sequence[Mapping[str, Any]], version: str) -> Iterator[LazyText]:
    """Yield, for each database, the manifest line that would declare its changes, if any does.

    Args:
        findings: Findings of ``verify`` as JSON.
        version: The release that was running.
    """
    declarable = {kind.value for kind in SelfManagedObject}
    for found in findings:
        figures = found.get("figures", {})
        if found.get("code") != SCHEMA_CHANGED or not figures.get("kinds"):
            continue
        kinds = [str(kind) for kind in figures["kinds"]]
        values = {"database": str(figures.get("database")), "version": version}
        if set(kinds) <= declarable:
            line = f"self_managed = {json.dumps(kinds)}"
            words = N_(
                "If {version} makes this change itself on purpose, add it to [[databases]]"
                " {database} in the manifest: {line}"
            )
            yield LazyText(words, {**values, "line": LocalizedFigure(line)})
        else:
            words = N_(
                "Cannot be declared: {kinds} of {database}. Make the change in the migrator, or"
                " wait until it is complete."
            )
            code = [kind for kind in kinds if kind not in declarable]
            yield LazyText(words, {**values, "kinds": LocalizedFigure(", ".join(code))})


TIMEOUT_S = 24 * 3600.0
#: Fields of an error document that are shown.
ERROR_KEYS = ("title", "remedy", "detail")
#: Limit on confirmations: an application that writes meanwhile increases the number of records.
MAX_LOSS_CONFIRMATIONS = 3


@dataclass(frozen=True)
class SandboxStage:
    """One command of the agent.

    Attributes:
        name: Name of the stage: ``adopt``, ``rehearse``, ...
        status: Exit status of the agent.
        seconds: Duration in seconds.
        code: Error code, also of a rollback that failed in the rehearsal; empty without an error.
        output: Complete output.
        document: JSON output.
    """

    name: str
    status: int
    seconds: float
    code: str
    output: str
    document: dict[str, Any]

    @property
    def is_passed(self) -> bool:
        """Return whether the stage succeeded."""
        return self.status == ExitCode.OK and not self.code


@contextlib.contextmanager
def serve_feed(directory: Path, site: SandboxSite) -> Iterator[None]:
    """Serve a feed at the URL that the site uses, during the block.

    Raises:
        UpdaterError: If the port is in use.
    """
    handler = functools.partial(_SilentRequestHandler, directory=str(directory))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", site.port), handler)
    except OSError as error:
        reason = f"port {site.port} of its feed: {describe_system_error(error)}"
        raise UpdaterError(SANDBOX_UNUSABLE, path=site.config, reason=reason) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _SilentRequestHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Discard log messages."""


class SandboxRun:
    """Runs the agent for one site.

    Args:
        site: The site.
        agent: Command line of the agent.
        language: Language of its output.
        report: Receives each finished stage.
    """

    def __init__(
        self,
        site: SandboxSite,
        agent: Sequence[str],
        language: str,
        report: Callable[[SandboxStage], None],
    ) -> None:
        self._site = site
        self._agent = tuple(agent)
        self._language = language
        self._report = report

    def run_stages(
        self, previous: str, release: str, passed: Sequence[str] = ()
    ) -> list[SandboxStage]:
        """Adopt the site, test the release in every way, and roll back.

        Args:
            previous: The installed version.
            release: The version to test.
            passed: Stages passed in an earlier run, which are skipped.

        Returns:
            The stages up to the first failure.

        Raises:
            UpdaterError: If the sandbox's application cannot be started or stopped.
        """
        done: list[SandboxStage] = []
        for stage in self._run_each_stage(previous, release, passed):
            done.append(stage)
            self._report(stage)
            if not stage.is_passed:
                break
        return done

    def suggest_manifest_lines(
        self, stages: Sequence[SandboxStage], before: str, release: str
    ) -> tuple[LazyText, ...]:
        """Return suggested manifest lines if a changed schema ended the trial.

        Args:
            stages: The result of :meth:`run_stages`.
            before: The version installed before.
            release: The tested version.
        """
        last = stages[-1]
        if last.is_passed or SCHEMA_CHANGED not in last.output:
            return ()
        found = self._run_stage("verify", "verify").document.get("findings")
        ran = release if last.name == "verify" else before
        return tuple(suggest_declarations(found, ran)) if isinstance(found, list) else ()

    def _run_each_stage(
        self, before: str, release: str, passed: Sequence[str]
    ) -> Iterator[SandboxStage]:
        was_up = self._site.is_running()
        again = ["--retry"] if passed else []  # retry the release that failed here before
        stages = {
            "adopt": ["adopt", before, *([] if was_up else ["--application-is-down"])],
            "check": ["check"],
            "plan": ["plan", release],
            "rehearse": ["rehearse", release, *again],
            "upgrade": ["upgrade", release, "--yes", *again],
            "verify": ["verify"],
            "rollback": [],
            "verify again": ["verify"],
        }
        for name, words in stages.items():
            if name not in passed:
                if name != "adopt" and not self._site.is_running():
                    self._site.start_application()
                yield self._run_stage(name, *words) if words else self._roll_back()

    def _roll_back(self) -> SandboxStage:
        """Roll back; accept the counted data loss, since it is only test data."""
        stage = self._run_stage("rollback", "rollback", "--dry-run")
        for _ in range(MAX_LOSS_CONFIRMATIONS):
            asked = _get_requested_loss(stage)
            agreed = [] if asked is None else ["--accept-loss", str(asked)]
            stage = self._run_stage("rollback", "rollback", "--yes", *agreed)
            if stage.status != ExitCode.APPROVAL_MISSING:
                break
            way = self._run_stage("rollback", "rollback", "--dry-run")
            stage = SandboxStage(
                stage.name, stage.status, stage.seconds, stage.code, stage.output, way.document
            )
        return stage

    def _run_stage(self, name: str, *words: str) -> SandboxStage:
        begin = time.monotonic()
        environment = strip_own_libraries(os.environ)
        environment["NCEN_CONFIG_FILE"] = str(self._site.config)
        try:
            ended = subprocess.run(
                [*self._agent, *words, "--json", "--text", "--lang", self._language],
                env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"the agent cannot be run: {describe_system_error(error)}"
            raise UpdaterError(SANDBOX_UNUSABLE, path=self._site.config, reason=reason) from error
        document = _parse_output(ended.stdout)
        shown = document.pop("lines", [])
        failure = document.get("error")
        code = str(failure.get("code", "")) if isinstance(failure, dict) else ""
        if _has_failed_rollback(document):
            code = MIGRATION_FAILED.code
        reported = ended.stderr.decode("utf-8", "replace").strip()
        # The JSON output has the reason: an error, or the lines on what blocks a plan.
        why = [failure.get(part, "") for part in ERROR_KEYS] if isinstance(failure, dict) else []
        text = "\n".join(line for line in (reported, *shown, *why) if line)
        seconds = time.monotonic() - begin
        return SandboxStage(name, ended.returncode, seconds, code, text, document)


def _has_failed_rollback(document: Mapping[str, Any]) -> bool:
    """Return whether a rollback with sample values failed in a rehearsal that a site accepts."""
    report = (document.get("rehearsal") or {}).get("report") or {}
    tests = [hop.get("round_trip") or {} for hop in report.get("hops") or ()]
    return any(test.get("failure") for test in tests)


def _get_requested_loss(stage: SandboxStage) -> int | None:
    """Return the number of records whose loss must be accepted, possibly 0; None if not needed."""
    failure = stage.document.get("error")
    values = failure.get("values") if isinstance(failure, dict) else None
    if stage.status == ExitCode.APPROVAL_MISSING and isinstance(values, dict):
        count = values.get("count")
        return count if isinstance(count, int) else None
    return stage.document.get("lost_total") or None


def _parse_output(output: bytes) -> dict[str, Any]:
    try:
        found = json.loads(output)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
