"""A whole round of a release at a site on the desk: over to it, and back, by the agent itself.

The agent is started as a process, as a person would: nothing of it is imported here. Where a schema
changed by itself meanwhile, it says what a manifest may declare of that.
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
from ncen_updater.common.i18n import N_, Figure, Text
from ncen_updater.common.messages import NO_DESK_SITE, ExitCode
from ncen_updater.formats.manifest import ChangedItself
from ncen_updater.publisher.errors import system_words
from ncen_updater.publisher.new.desk import DeskSite, without_own_libraries

#: Of the agent's finding that a schema is not as it was recorded.
SCHEMA_CHANGED = "NU-6106"


def declarations(findings: Sequence[Mapping[str, Any]], version: str) -> Iterator[Text]:
    """Yield by database the line that would cover what changed, or that none does.

    Args:
        findings: As ``verify`` has them for programs.
        version: Of the release that ran.
    """
    declarable = {kind.value for kind in ChangedItself}
    for found in findings:
        figures = found.get("figures", {})
        if found.get("code") != SCHEMA_CHANGED or not figures.get("kinds"):
            continue
        kinds = [str(kind) for kind in figures["kinds"]]
        values = {"database": str(figures.get("database")), "version": version}
        if set(kinds) <= declarable:
            line = f"changes_itself = {json.dumps(kinds)}"
            words = N_(
                "If the application of {version} does this by itself, and is meant to, write below"
                " 'name' of [[databases]] {database} in its manifest: {line}"
            )
            yield Text(words, {**values, "line": Figure(line)})
        else:
            words = N_(
                "Not all of it can be declared: {kinds} of {database} are code, or call some. Let"
                " the program of the release do that, or wait until it has come to its end."
            )
            code = [kind for kind in kinds if kind not in declarable]
            yield Text(words, {**values, "kinds": Figure(", ".join(code))})


LIMIT_S = 24 * 3600.0
#: Of an error as programs have it, what a person needs.
EXPLAINED = ("what", "remedy", "detail")
#: An application that writes by itself raises the number that was asked for; so often it is asked.
ASKED = 3


@dataclass(frozen=True)
class RoundStage:
    """One command of the agent.

    Attributes:
        name: What was tried, for people and programs: ``adopt``, ``rehearse``, ...
        status: How the agent ended.
        seconds: How long it took.
        code: Of its error; empty where there is none.
        said: What it said, whole.
        document: What it said for programs.
    """

    name: str
    status: int
    seconds: float
    code: str
    said: str
    document: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether it came to a good end."""
        return self.status == ExitCode.OK


@contextlib.contextmanager
def served(directory: Path, desk: DeskSite) -> Iterator[None]:
    """Serve a feed where the site looks for it, for as long as the block lasts.

    Raises:
        UpdaterError: If the port is taken.
    """
    handler = functools.partial(_Unlogged, directory=str(directory))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", desk.port), handler)
    except OSError as error:
        reason = f"port {desk.port} of its feed: {system_words(error)}"
        raise UpdaterError(NO_DESK_SITE, path=desk.config, reason=reason) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Unlogged(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class DeskRound:
    """Runs the agent for one site.

    Args:
        desk: The site.
        agent: The agent's program and its first words.
        language: In which it speaks.
        tell: Is told each stage that ended.
    """

    def __init__(
        self,
        desk: DeskSite,
        agent: Sequence[str],
        language: str,
        tell: Callable[[RoundStage], None],
    ) -> None:
        self._desk = desk
        self._agent = tuple(agent)
        self._language = language
        self._tell = tell

    def run(self, before: str, release: str, passed: Sequence[str] = ()) -> list[RoundStage]:
        """Take the site over, try the release in every way, and go back.

        Args:
            before: The version that the site has.
            release: The one that is tried.
            passed: Stages of an earlier run, which are left out.

        Returns:
            The stages, up to the first that failed.

        Raises:
            UpdaterError: If the application of the desk cannot be started or stopped.
        """
        done: list[RoundStage] = []
        for stage in self._stages(before, release, passed):
            done.append(stage)
            self._tell(stage)
            if not stage.passed:
                break
        return done

    def hints(self, stages: Sequence[RoundStage], before: str, release: str) -> tuple[Text, ...]:
        """Return what a manifest might say where a changed schema ended the round.

        Args:
            stages: As :meth:`run` returned them.
            before: The version that the site had.
            release: The one that was tried.
        """
        last = stages[-1]
        if last.passed or SCHEMA_CHANGED not in last.said:
            return ()
        found = self._stage("verify", "verify").document.get("findings")
        ran = release if last.name == "verify" else before
        return tuple(declarations(found, ran)) if isinstance(found, list) else ()

    def _stages(self, before: str, release: str, passed: Sequence[str]) -> Iterator[RoundStage]:
        was_up = self._desk.running()
        again = ["--retry"] if passed else []  # what failed here is tried once more
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
                if name != "adopt" and not self._desk.running():
                    self._desk.start()
                yield self._stage(name, *words) if words else self._back()

    def _back(self) -> RoundStage:
        """Go back; what would be lost is nobody's, and is agreed to as it is counted."""
        stage = self._stage("rollback", "rollback", "--dry-run")
        for _ in range(ASKED):
            asked = _asked_for(stage)
            agreed = [] if asked is None else ["--accept-loss", str(asked)]
            stage = self._stage("rollback", "rollback", "--yes", *agreed)
            if stage.status != ExitCode.APPROVAL_MISSING:
                break
            way = self._stage("rollback", "rollback", "--dry-run")
            stage = RoundStage(
                stage.name, stage.status, stage.seconds, stage.code, stage.said, way.document
            )
        return stage

    def _stage(self, name: str, *words: str) -> RoundStage:
        begin = time.monotonic()
        environment = without_own_libraries(os.environ)
        environment["NCEN_CONFIG_FILE"] = str(self._desk.config)
        try:
            ended = subprocess.run(
                [*self._agent, *words, "--json", "--words", "--lang", self._language],
                env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"the agent cannot be run: {system_words(error)}"
            raise UpdaterError(NO_DESK_SITE, path=self._desk.config, reason=reason) from error
        document = _document(ended.stdout)
        shown = document.pop("words", [])
        failure = document.get("error")
        code = str(failure.get("code", "")) if isinstance(failure, dict) else ""
        told = ended.stderr.decode("utf-8", "replace").strip()
        # Why it failed stands in the answer: an error, or the lines about what blocks a plan.
        why = [failure.get(part, "") for part in EXPLAINED] if isinstance(failure, dict) else []
        said = "\n".join(line for line in (told, *shown, *why) if line)
        seconds = time.monotonic() - begin
        return RoundStage(name, ended.returncode, seconds, code, said, document)


def _asked_for(stage: RoundStage) -> int | None:
    """How many records a person has to give up by their word, also 0; None where nobody has to."""
    failure = stage.document.get("error")
    values = failure.get("values") if isinstance(failure, dict) else None
    if stage.status == ExitCode.APPROVAL_MISSING and isinstance(values, dict):
        count = values.get("count")
        return count if isinstance(count, int) else None
    return stage.document.get("lost_total") or None


def _document(output: bytes) -> dict[str, Any]:
    try:
        found = json.loads(output)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
