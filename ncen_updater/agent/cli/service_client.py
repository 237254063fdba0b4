"""Access to a site through its service, which gets the caller's identity from the kernel."""

# ruff: noqa: D102 - the methods are those of LocalSiteClient, which describes them

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from ncen_updater.agent.cli.job_progress import (
    describe_job_wait,
    has_started,
    parse_job_result,
    report_progress,
    report_service_away,
)
from ncen_updater.agent.config.essential_settings import read_service_socket
from ncen_updater.agent.engine.approvals.next_upgrade import (
    require_approvals,
    require_no_pending_change,
)
from ncen_updater.agent.engine.change_guards import make_hold_error
from ncen_updater.agent.storage.journal.site_history import HoldRecord, select_longest_hold
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    API_PATH_UNKNOWN,
    FEED_NEVER_READ,
    NO_SERVICE,
    NOT_ALLOWED,
    NOTHING_TO_APPROVE,
    TOO_MANY_STREAMS,
    UNKNOWN_CHANGE,
)
from ncen_updater.common.progress import ProgressListener, ProgressUpdate

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.reports.command_results import CommandResult, JsonDocument
    from ncen_updater.agent.service.api_client import SiteServiceClient
    from ncen_updater.agent.storage.journal.rows import ChainHead

#: Number and interval of the requests until the service's assessment is up to date.
MAX_POLLS, POLL_INTERVAL_S = 60, 0.5
#: How long one request waits for an inspection before the service reports its progress.
INSPECT_WAIT_S = 2


class ServiceSiteClient:
    """Client of the service of a site.

    Args:
        run: Session of the command.
        service: Connection to the service.
    """

    def __init__(self, run: AgentSession, service: SiteServiceClient) -> None:
        self._run, self._service = run, service

    def request(self, route: str, **values: object) -> JsonDocument:
        """Send one request of the API; omit values that are None.

        Args:
            route: Method and path template, as in the table of routes.
            values: Values of the path, and the fields of the form or query.
        """
        method, address = route.split()
        given = {
            name: _encode_value(value)
            for name, value in values.items()
            if value not in (None, "", (), [])
        }
        for name in re.findall(r"{(\w+)}", address):
            address = address.replace(f"{{{name}}}", quote(str(given.pop(name)), safe=""))
        if method in ("POST", "PUT"):
            return self._service.call(method, address, given or None)
        return self._service.call(method, f"{address}?{urlencode(given)}" if given else address)

    # ---- status and history --------------------------------------------------------------------

    def read_status(self) -> JsonDocument:
        return self.request("GET /v1/status")

    def read_history(self, change: str | None, limit: int) -> JsonDocument:
        if change is None:
            return self.request("GET /v1/history", limit=limit)
        try:
            return self.request("GET /v1/history/{id}", id=change)
        except UpdaterError as error:
            if error.code != API_PATH_UNKNOWN.code:
                raise
            raise UpdaterError(UNKNOWN_CHANGE, change=change, state=NOTHING_CHANGED) from error

    def set_hold(self, reason: str, until: datetime | None) -> JsonDocument:
        return self.request("POST /v1/holds", reason=reason, until=until)

    def lift_holds(self) -> int:
        return int(self.request("DELETE /v1/holds")["lifted"])

    def read_next_upgrade_summary(self) -> tuple[Sequence[str], JsonDocument | None]:
        seen = self._read_fresh_next_upgrade()
        return ((), None) if seen["open_change"] else (seen["hops"], seen["starts_at"])

    def require_startable(self) -> None:
        holds = map(HoldRecord.from_json, self.read_status()["journal"].get("holds", ()))
        hold = select_longest_hold(holds)
        if hold is not None:
            error = make_hold_error(hold, self._run.zone)
            error.state = NOTHING_CHANGED
            raise error

    def require_right(self, role: str) -> None:
        self.request("GET /v1/rights/{role}", role=role)

    def confirm_release(self) -> JsonDocument:
        return self.request("POST /v1/confirmation")

    def is_service_running(self) -> bool:
        return True

    def read_next_upgrade(self, target: Version | None) -> JsonDocument:
        """Read the service's assessment; see :class:`.LocalSiteClient`."""
        seen = self._read_fresh_next_upgrade()
        change = seen["open_change"]
        served = change is None or not self._is_waiting_to_resume()
        require_no_pending_change(change, self._run.zone, served=served, state=NOTHING_CHANGED)
        return self._select_target(seen, target)

    def _is_waiting_to_resume(self) -> bool:
        """Return whether the service is waiting to retry a resume that failed."""
        now = datetime.now(UTC)
        return any(
            one["action"] == "resume" and datetime.fromisoformat(one["again_at"]) > now
            for one in self.read_status()["service"]["failures"]
        )

    def _select_target(self, seen: JsonDocument, target: Version | None) -> JsonDocument:
        """Return the next upgrade if it is to the given release.

        Raises:
            NOT_THE_NEXT_UPGRADE: If the given release cannot be approved.
            FEED_NEVER_READ, NOTHING_TO_APPROVE: If there is no next upgrade.
        """
        if target is not None and target != type(target)(seen["target"] or "0"):
            return self.request("GET /v1/next-upgrade", version=target)
        if seen["target"] is None:
            if self.read_status()["feed"] is None:
                raise UpdaterError(FEED_NEVER_READ, state=NOTHING_CHANGED)
            raise UpdaterError(
                NOTHING_TO_APPROVE, current=str(seen["current"]), state=NOTHING_CHANGED
            )
        return seen

    def _read_fresh_next_upgrade(self) -> JsonDocument:
        """Return the next upgrade; wait up to 30 s until the newest event is assessed.

        Do not wait while an operation runs, since the service assesses the site only afterwards.
        """
        seen = self.request("GET /v1/next-upgrade")
        with self._run.make_progress() as progress:
            for _ in range(MAX_POLLS):
                if seen["up_to_date"] or self.read_status()["service"]["running"]:
                    break
                progress.report(LazyText(N_("waiting for the service")))
                sleep(POLL_INTERVAL_S)
                seen = self.request("GET /v1/next-upgrade")
        return seen

    def approve(self, next_upgrade: JsonDocument) -> None:
        self.request("POST /v1/approvals", binding=next_upgrade["binding"])

    def withdraw(self, version: Version | None, *, rollbacks: bool) -> int:
        selection = {"change_kind": "rollback"} if rollbacks else {"version": version}
        return int(self.request("DELETE /v1/approvals", **selection)["withdrawn"])

    def schedule(self, next_upgrade: JsonDocument, not_before: datetime) -> None:
        self.request("PUT /v1/schedule", binding=next_upgrade["binding"], not_before=not_before)

    def cancel_schedule(self) -> int:
        return int(self.request("DELETE /v1/schedule")["cancelled"])

    def require_consent(self, target: Version, *, retry: bool) -> None:
        seen = self._select_target(self._read_fresh_next_upgrade(), target)
        # If one approval is enough, an approver approves by requesting the upgrade.
        if seen["required_approvals"] > 1 or "approve" not in self.read_status()["you"]["roles"]:
            require_approvals(seen)

    # ---- work ----------------------------------------------------------------------------------

    def check_feed(self) -> CommandResult:
        return self.run_job("check")

    def prepare_plan(
        self, target: Version | None, *, retry: bool, sql: bool = False
    ) -> CommandResult:
        """See :class:`.LocalSiteClient`; viewers get only the plan of a downloaded release."""
        version: Version | str | None = target
        try:
            answer = self.run_job("prepare", version=version, retry=retry)
        except UpdaterError as error:
            if error.code != NOT_ALLOWED.code:
                raise
        else:
            hops = answer.document.get("hops")
            if not sql or answer.error is not None or not hops:
                return answer
            version = hops[-1]["version"]  # that plan is for the last hop
        answer = self.inspect("plan", version=version, retry=retry)
        plan, text = answer.document.get("plan"), answer.document.get("sql")
        if not (sql and isinstance(plan, dict) and isinstance(text, str)):
            shown = {key: value for key, value in answer.document.items() if key != "sql"}
            return replace(answer, document=shown)
        from ncen_updater.agent.reports.command_results import CommandResult

        return CommandResult({"digest": plan["digest"], "sql": text}, [text])

    def build_dossier(self, target: Version | None) -> CommandResult:
        return self.inspect("dossier", version=target)

    def run_doctor(self) -> CommandResult:
        return self.inspect("findings")

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> CommandResult:
        return self.inspect("audit-log" if journal_only else "verify", chain_heads=heads)

    def collect_support_bundle(
        self, leave_out: Sequence[str], show: Sequence[str]
    ) -> CommandResult:
        return self.inspect("support-bundle", leave_out=leave_out, show=show)

    def update_agent(self, target: Version | None, *, retry: bool) -> CommandResult:
        answer = self.run_job("self-update", version=target, retry=retry)
        wanted = answer.document.get("to")
        for _ in range(MAX_POLLS if wanted else 0):
            value = self._service.get("/v1/openapi.json", patiently=True)
            if value["info"]["version"] == wanted:
                runs = LazyText(N_("Running on trial: ncen-updater {version}"), {"version": wanted})
                return replace(answer, lines=[*answer.lines[:1], runs])
            sleep(POLL_INTERVAL_S)
        return answer

    def rehearse(self, target: Version | None, *, retry: bool) -> CommandResult:
        return self.run_job("rehearse", version=target, retry=retry)

    def upgrade(self, target: Version | None, *, retry: bool) -> CommandResult:
        return self.run_job("upgrade", version=target, retry=retry)

    def import_bundle(self, file: Path, *, dry_run: bool) -> CommandResult:
        """Import through the import directory; see :class:`.LocalSiteClient`."""
        from ncen_updater.agent.storage.inbox import place_files

        self.require_right("operate")
        inbox = Path(str(self.request("GET /v1/inbox")["directory"]))
        with self._run.make_progress() as progress, place_files(inbox, file, progress) as remove:
            answer = self.run_job("import", file=file.name, dry_run=dry_run)
            if answer.document.get("ended") is False:
                remove.clear()  # the job still needs the files
                text = N_("The copied files remain in {path}.")
                self._run.print_message(LazyText(text, {"path": inbox}))
        return answer

    def plan_rollback(self, accept_loss: int | None) -> CommandResult:
        return self.inspect("rollback-plan", accept_loss=accept_loss)

    def approve_rollback(self, rollback_plan: JsonDocument, accept_loss: int | None = None) -> None:
        self.request(
            "POST /v1/approvals",
            binding=rollback_plan["binding"],
            change_kind="rollback",
            accept_loss=accept_loss or None,
        )

    def rollback(
        self, accept_loss: int | None, undoes: str | None, emergency: str | None = None
    ) -> CommandResult:
        return self.run_job(
            "rollback", accept_loss=accept_loss, undoes=undoes, emergency_reason=emergency
        )

    # ---- jobs and inspections --------------------------------------------------------------------

    def run_job(self, kind: str, **data: object) -> CommandResult:
        """Queue a job, show its progress until it ends, and return its result.

        Ctrl-C ends only the display.

        Raises:
            UpdaterError: If the job is refused, or the service stays unreachable.
            JOB_INTERRUPTED: If the service was killed meanwhile.
        """
        job = self.request("POST /v1/jobs", kind=kind, language=self._run.language, **data)
        number = job["id"]
        try:
            with self._run.make_progress() as progress:
                self._follow_job(kind, job, progress)
        except KeyboardInterrupt:
            text = N_("Job {job} continues. To follow it, run: ncen-updater watch")
            self._run.print_message(LazyText(text, {"job": number}))
            from ncen_updater.agent.reports.command_results import CommandResult

            return CommandResult({"job": number, "ended": False})
        ended = self._service.get(f"/v1/jobs/{number}", patiently=True)
        return parse_job_result(number, ended["result"])

    def _follow_job(self, kind: str, job: JsonDocument, progress: ProgressListener) -> None:
        """Show the progress of a job until it ends."""
        number = job["id"]
        wait: LazyText | None = None
        try:
            for event in self._service.stream(job["event"], partial(report_service_away, progress)):
                if event.kind == "job-ended" and event.data["data"].get("job") == number:
                    return
                if event.kind != "service":
                    continue
                # A rollback ends a soak period and does not wait.
                if kind != "rollback" and not has_started(event.data, job["at"]):
                    wait = wait or self._describe_wait(job["at"])
                if wait is not None and not has_started(event.data, job["at"]):
                    progress.report(wait)
                elif event.data["running"] is not None:
                    report_progress(progress, event.data)
        except UpdaterError as error:
            if error.code != TOO_MANY_STREAMS.code:
                raise
        # This user has reached the limit of event streams: poll instead.
        while self._service.get(f"/v1/jobs/{number}", patiently=True)["ended_at"] is None:
            report_progress(progress, self.read_status()["service"])
            sleep(POLL_INTERVAL_S)

    def _describe_wait(self, requested_at: str) -> LazyText | None:
        """Describe what a job waits for: a soak period or another operation."""
        seen = self.read_status()
        if has_started(seen["service"], requested_at):
            return None
        return describe_job_wait(seen, self._run.zone)

    def inspect(self, kind: str, **data: object) -> CommandResult:
        """Run an inspection, show its progress, and return its result.

        Raises:
            UpdaterError: If it is refused or returns no result.
        """
        started = self.request(
            "POST /v1/inspections", kind=kind, language=self._run.language, **data
        )
        number = started["id"]
        with self._run.make_progress() as progress:
            while True:
                seen = self._service.get(f"/v1/inspections/{number}?wait={INSPECT_WAIT_S}")
                if seen["result"] is not None:
                    return parse_job_result(number, seen["result"])
                update = ProgressUpdate.from_json(seen["progress"])
                if update is not None:
                    progress.report(update.text, update.amount)


def _encode_value(value: object) -> object:
    """Convert a value for a form or query."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | int | str):
        return value
    return [str(item) for item in value] if isinstance(value, Sequence) else str(value)


def find_service(run: AgentSession) -> SiteServiceClient | None:
    """Return the client of the service, or None if the command has to work without it.

    None with ``--local``, if no service listens, or if the user may not connect to its socket. Then
    file permissions decide.
    """
    path = read_service_socket(run.config)
    try:
        if run.local_only or not path.is_socket():
            return None
    except OSError:  # no permission for the directory
        return None
    from ncen_updater.agent.service.api_client import SiteServiceClient

    client = SiteServiceClient(path, run.language, config=run.config)
    return client if client.is_reachable() else None


def require_service(run: AgentSession) -> SiteServiceClient:
    """Return the client of the service.

    Raises:
        PermissionError: If the user may not connect to it.
        NO_SERVICE: If no service responds.
    """
    client = find_service(run)
    if client is not None:
        return client
    from ncen_updater.agent.service.api_client import CONNECT_TIMEOUT_S
    from ncen_updater.common.unix_http import connect_unix_socket

    path = read_service_socket(run.config)
    try:
        connect_unix_socket(path, CONNECT_TIMEOUT_S).close()
    except PermissionError as error:
        raise PermissionError(error.errno, error.strerror, str(path)) from error
    except OSError as error:
        raise UpdaterError(NO_SERVICE, path=path) from error
    raise UpdaterError(NO_SERVICE, path=path)
