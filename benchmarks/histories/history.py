"""A site that goes through a history of trials, each judged from outside."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.histories.administrator import Administrator
from benchmarks.histories.foreign_sessions import KINDS, ForeignSessions, Ledger, UserTraffic
from benchmarks.histories.judge import (
    Attempt,
    Kind,
    Loss,
    Record,
    Seen,
    Verdict,
    collect_keys,
    find_missing_records,
    find_named_sets,
    judge,
    list_unusual_values,
)
from benchmarks.histories.picture import find_differences, picture, read_keys, superuser
from benchmarks.histories.plans import OPERATIONS, Fault, Plan
from benchmarks.histories.report_check import SiteReport, Truth, find_false_statements
from benchmarks.histories.stage import START, Stage, locate_databases
from benchmarks.histories.strikes import descendants, kill_at_call, wait_stopped
from demo.databases import PostgresPlace, SqlitePlace
from demo.site import version_of
from ncen_updater.agent.adapters.databases.base import DatabaseRole
from tests.faults.nursery import Nursery
from tests.support.sites import site_in_process

MOST_RESUMES = 6
#: An operation that takes longer counts as hanging.
HANGS_S = 150.0
TURNS_BAD = "3.3.6"
AT = re.compile(r"^@@ (\S+) (\S+)$")


@dataclass
class Run:
    """Observations of one command of the agent.

    Attributes:
        code: Exit status; None if it was killed.
        output: Its output.
        instants: Time of each instant.
        struck: What the fault did.
    """

    code: int | None = None
    output: str = ""
    instants: dict[tuple[str, str], float] = field(default_factory=dict)
    struck: str = ""
    hung: bool = False
    fences: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """A trial and its result."""

    number: int
    plan: Plan
    before: str
    after: str
    verdict: Verdict
    struck: str
    stranger: str
    resumes: int
    records: int
    seconds: float
    log: tuple[str, ...]

    @property
    def effective(self) -> bool:
        """Return whether the fault took effect, if there was one."""
        return self.plan.fault is None or self.struck.startswith("struck")


class History:
    """Runs the history of one site. Not thread-safe, except for its writers.

    Args:
        stage: The site.
        seed: Fixes the choices, not the timing.
    """

    def __init__(self, stage: Stage, seed: str) -> None:
        self.stage, self.seed = stage, seed
        self.ledger = Ledger()
        self.users = UserTraffic(stage.demo.front_port, self.ledger, seed)
        self.version = START
        self.age = 0
        self.log: list[str] = []
        self._upgrades: list[tuple[str, float]] = []  # previous version, and time of its fence
        self._ordinary: set[str] = set()
        self._keys: set[str] = set()
        self._killed_app = False
        self._promise: dict[str, Any] = {}
        self._untrue: list[str] = []

    # ---- operations ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Run an undisturbed upgrade and rollback, to learn which keys and events are ordinary."""
        for words in (("check",), ("upgrade", "3.3.0", "--yes"), ("rollback", "--yes")):
            run = self._run(self.stage.nursery, list(words))
            self._keys |= collect_keys(_document(run.output))
            if run.code != 0:
                raise SystemExit(f"{words} fails undisturbed on a fresh site: {run.output}")
        self._ordinary = {kind for kind, _ in self.stage.events()} | {"step-failed", "recovery"}
        self.reset()

    def reset(self) -> None:
        """Start again with a fresh site."""
        self.stage.reset()
        self.ledger.clear()
        self._upgrades.clear()
        self.version, self.age = START, 0
        self._run(self.stage.nursery, ["check"])

    def list_operations(self) -> list[str]:
        """Return the operations that are possible now."""
        found = [n for n, o in OPERATIONS.items() if self.version in o.begins]
        self._promise = {}
        if self._upgrades:
            run = self._run(self.stage.nursery, ["rollback", "--dry-run"])
            self._promise = _document(run.output)
            if run.code == 0:
                found.append("rollback")
            elif self._promise.get("error", {}).get("code") == "NU-6015":
                found += ["rollback, loss accepted", "rollback, loss not accepted"]
        return found

    def upgrade_to(self, version: str) -> None:
        """Bring a fresh site to the release at which a plan begins, undisturbed."""
        self.reset()
        for hop in {"3.4.0": ("3.3.10", "3.4.0"), START: ()}.get(version, (version,)):
            run = self._run(self.stage.nursery, ["upgrade", hop, "--yes"])
            self._upgrades.append((self.version, (run.fences or [0.0])[-1]))
            self.version = hop
        self.list_operations()

    # ---- one trial -----------------------------------------------------------------------------

    def trial(self, number: int, plan: Plan, chance: random.Random) -> Trial:
        """Execute a plan and judge the result."""
        began = time.monotonic()
        self.log = []
        self._killed_app = False
        what, kind = OPERATIONS[plan.operation], KINDS[plan.stranger]
        before = self.version
        acknowledged = len(self.ledger.records)
        words, wanted, promised, accepted = self._make_command(plan)
        self.stage.configure(
            soak_s=what.soak_s,
            health_timeout_s=what.health_timeout_s,
            stop_timeout_s=1.0 if plan.fault and "slow to stop" in plan.fault.kind else 20.0,
            previous_days=1e-7 if plan.operation == "prune" and chance.random() < 0.3 else 7.0,
        )
        if plan.operation == "upgrade, on hold":
            self._run(self.stage.nursery, ["hold", "--reason", "a trial"])
        stranger = ForeignSessions(self.stage, self.ledger, plan.stranger, chance)
        stranger.come()
        run = self._run(
            self.stage.nursery,
            words,
            plan=plan,
            stranger=stranger,
            confirm=plan.operation == "upgrade, confirmed",
            blind="unseen" in plan.stranger,
        )
        self._log_line(
            f"{' '.join(words)} -> {run.code} {run.struck} {_one_line(run) if run.code else ''}"
        )
        if not plan.stays:
            stranger.go()
        if plan.operation == "upgrade, on hold":
            self._run(self.stage.nursery, ["unhold"])
        self._untrue = []
        resumes, at_rest, outputs = self._resume_until_done(run, plan, stranger)
        stranger.go()
        loss = None
        if accepted is not None and self._upgrades:
            until = run.instants.get(("fence", "after-record"), time.time())
            loss = Loss(self._upgrades[-1][1], until, accepted)
        tried = Attempt(
            operation=f"{plan.operation}" + (f" ({what.target})" if what.target else ""),
            before=before,
            wanted=wanted,
            fails=what.fails,
            refusal=what.refusal,
            between=what.between,
            exit_code=run.code,
            downtime_began=("maintenance-on", "after-effect") in run.instants,
            # A fault without effect, or an idle foreign session, excuses nothing. A process that
            # died of a signal was hit, whatever the striker observed.
            fault=plan.fault.kind
            if plan.fault and (run.code is None or run.struck.startswith("struck"))
            else "",
            stranger=plan.stranger,
            may_block=kind.before or kind.comes,
            excuses=kind.holds or (kind.excuses and stranger.acted),
            names=stranger.names,
            output=run.output,
            resumes=resumes,
            at_rest=at_rest and not run.hung,
            loss=loss,
            promised=promised,
        )
        # Users continue: what they enter from now on belongs to the next trial.
        records = self.ledger.all()
        seen = self._observe(records, [run.output, *outputs])
        if stranger.administrator is not None and not seen.unreadable:
            self._compare_reports(stranger.administrator, seen)
        seen = dataclasses.replace(seen, untrue=tuple(self._untrue))
        verdict = judge(tried, seen, records)
        if verdict.kind is Kind.WRONG:
            self._log_line(f"last answer to users: {self.users.last_answer}")
            excused = {*verdict.agreed, *verdict.set_aside}
            self._print_loss_interval(
                [r for r in find_missing_records(records, seen.live) if r not in excused], run
            )
        self.ledger.forget((*verdict.agreed, *verdict.set_aside))
        self._record_version(before, seen.whole or "?", run, plan)
        return Trial(
            number=number,
            plan=plan,
            before=before,
            after=seen.whole or "?",
            verdict=verdict,
            struck=run.struck,
            stranger=f"{stranger.accepted} accepted, {stranger.refused} refused"
            if plan.stranger
            else "",
            resumes=resumes,
            records=len(self.ledger.records) - acknowledged,
            seconds=round(time.monotonic() - began, 2),
            log=tuple(self.log),
        )

    def _make_command(self, plan: Plan) -> tuple[list[str], str, int | None, int | None]:
        """Return command line, expected version, promised loss and accepted loss."""
        what = OPERATIONS[plan.operation]
        words = list(what.words)
        if what.words[0] != "rollback":
            wanted = what.target if what.target and not (what.fails or what.refusal) else ""
            return words, wanted or self.version, None, None
        values = self._promise.get("error", {}).get("values", {})
        target = str(self._promise.get("to") or values.get("version") or self.version)
        if plan.operation == "rollback":
            return words, target, int(self._promise.get("lost_total", 0)), None
        if what.refusal:
            return words, self.version, None, None
        # Accept more than was counted, as an operator does while users work. The margin prevents a
        # refusal on a slow machine; another operation tests the refusal.
        accepted = 2 * int(values.get("count", 0)) + 20_000
        return [*words, "--accept-loss", str(accepted)], target, None, accepted

    def _record_version(self, before: str, after: str, run: Run, plan: Plan) -> None:
        self.age += 1
        self.version = after
        if after == before:
            return
        if OPERATIONS[plan.operation].words[0] == "rollback":
            self._upgrades = self._upgrades[:-1]
            return
        fences = run.fences or [0.0]
        if after == "3.4.0" and before != "3.3.10":
            self._upgrades.append((before, fences[0]))
            self._upgrades.append(("3.3.10", fences[-1]))
        else:
            self._upgrades.append((before, fences[0]))

    # ---- running the agent ---------------------------------------------------------------------

    def _argv(self, words: list[str], wishes: dict[str, Any]) -> list[str]:
        config = str(self.stage.demo.config_path)
        common = ["--config", config, "--json", "--quiet", "--local"]
        return [json.dumps(wishes), *common, *words]

    def _run(
        self,
        nursery: Nursery,
        words: list[str],
        *,
        plan: Plan | None = None,
        fault: Fault | None = None,
        stranger: ForeignSessions | None = None,
        confirm: bool = False,
        blind: bool = False,
    ) -> Run:
        """Run a command, and perform the planned actions at its instants while it is stopped."""
        run = Run()
        fault = fault or (plan.fault if plan else None)
        acts: dict[tuple[str, str], list[Callable[[int], None]]] = {}
        if plan and stranger:
            for instant in plan.at:
                acts.setdefault(instant, []).append(lambda _, i=instant: stranger.at(i))  # type: ignore[misc]
        striker = _Striker(self, run, fault, words)
        if fault and not striker.by_time:
            acts.setdefault(fault.instant, []).append(striker.strike)
        if confirm:
            acts.setdefault(("soak", "before-effect"), []).append(self._confirm_soon)
        lines: list[str] = []
        watch = threading.Timer(HANGS_S, lambda: self._kill_hanging(nursery, run))
        watch.daemon = True
        watch.start()
        striker.begin(nursery)
        try:
            wishes = {"stops": [list(i) for i in acts], "blind": blind, "patience_s": 4.0}
            for line in nursery.run(self._argv(words, wishes)):
                match = AT.match(line)
                if match is None:
                    lines.append(line)
                    continue
                instant = (match[1], match[2])
                run.instants[instant] = time.time()
                if instant == ("fence", "after-record"):
                    run.fences.append(time.time())
                if instant in acts:
                    self._perform(nursery.pid, acts[instant])
        finally:
            watch.cancel()
            striker.end()
        run.code = nursery.returncode if nursery.returncode >= 0 else None
        run.output = "".join(lines)
        return run

    def _perform(self, pid: int, acts: list[Callable[[int], None]]) -> None:
        if not wait_stopped(pid):
            return
        try:
            for act in acts:
                act(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _kill_hanging(self, nursery: Nursery, run: Run) -> None:
        run.hung = True
        self._log_line(f"it hangs at {list(run.instants)[-1:]}")
        for pid in (*descendants(nursery.pid), nursery.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _confirm_soon(self, _pid: int) -> None:
        def confirm() -> None:
            run = self._run(self.stage.second, ["confirm"])
            self._log_line(f"confirm -> {run.code}")

        threading.Timer(0.3, confirm).start()

    def _resume_until_done(
        self, run: Run, plan: Plan, stranger: ForeignSessions
    ) -> tuple[int, bool, list[str]]:
        """Run ``resume`` until no change is open, as an operator does; with faults of its own."""
        outputs: list[str] = []
        again = list(plan.again)
        # Leftovers of an interrupted rehearsal remain until the next resume, which must remove
        # them.
        torn = run.code is None or run.struck.startswith("struck")
        waits = torn and plan.operation.startswith("rehearse") and run.code != 0
        dba = stranger.administrator
        if dba is not None and dba.acted:
            self._log_line(f"the administrator {dba.did}, away: {dba.away}")
            self.stage.repair()
            if dba.is_steady:
                self._compare_reports(dba, None)
            # An operator types the resume before the undo, and once more after it.
            waits = True
            if not plan.stays:
                dba.undo()
        for number in range(MOST_RESUMES + len(plan.again)):
            if number or not (plan.fault and "back later" in plan.fault.kind and plan.stays):
                self.stage.repair()
                self._restart_application()
            if number == 1:
                stranger.go()
            if number and dba is not None:
                # As instructed, the administrator also opens databases that the change had found
                # closed.
                found_closed = "does not accept connections" in (outputs[-1] if outputs else "")
                dba.undo(open_change=not found_closed and self.stage.open_change() is not None)
            rest = self._at_rest()
            if rest and (number or (run.code is not None and not waits)):
                # Do not check the site while the killed server is still down.
                self.stage.repair()
                self._restart_application()
                return number, True, outputs
            fault = again.pop(0) if again else None
            resumed = self._run(self.stage.nursery, ["resume"], fault=fault)
            outputs.append(resumed.output)
            self._log_line(f"resume -> {resumed.code} {resumed.struck} {_one_line(resumed)}")
            change = self.stage.open_change()
            if resumed.code != 0 and change and change[1] == "committed":
                # The operator confirms the release, whatever the soak period found.
                confirmed = self._run(self.stage.nursery, ["confirm"])
                self._log_line(f"confirm -> {confirmed.code}")
        return MOST_RESUMES, self._at_rest(), outputs

    def _compare_reports(self, dba: Administrator, seen: Seen | None) -> None:
        """Compare the site's reports with its state, which has no fault after the last undo."""
        stage = self.stage
        status, doctor = self._run(stage.nursery, ["status"]), self._run(stage.nursery, ["doctor"])
        document = _document(status.output)
        last = (document.get("journal") or {}).get("last_change") or {}
        texts = {"status": self._text("status")}
        if last.get("id"):
            texts["history"] = self._text("history", str(last["id"]))
        maintenance_off = not stage.demo.maintenance_file.exists()
        truth = Truth(
            live=stage.read_live(),
            user_can_work=seen.user_can_work
            if seen
            else maintenance_off and self._can_user_enter_case(),
            maintenance_off=maintenance_off,
            open_change=stage.open_change() is not None,
            bad=frozenset(o.target for o in OPERATIONS.values() if o.fails),
            replaced=dba.replaced,
            undone=last.get("state") == "reverted",
            # A confirmed release that turned bad is a finding that stays.
            final=seen is not None and seen.whole != TURNS_BAD,
        )
        report = SiteReport(
            texts["status"], document, _document(doctor.output).get("findings", ()),
            texts.get("history", ""),
        )  # fmt: skip
        found = find_false_statements(report, truth)
        self._untrue += [f"{words} [{dba.did}]" for words in found]

    def _text(self, *words: str) -> str:
        """Run a command, and return its text output."""
        argv = [json.dumps({}), "--config", str(self.stage.demo.config_path), "--local", *words]
        return "".join(self.stage.nursery.run(argv))

    def _at_rest(self) -> bool:
        return self.stage.open_change() is None and not self.stage.demo.maintenance_file.exists()

    def _restart_application(self) -> None:
        """Start the application that this program killed, as a system's supervisor does."""
        if self._killed_app and not self.stage.demo.maintenance_file.exists():
            if not self.stage.demo.app_running():
                self.stage.demo.start_app()
            self._killed_app = False

    # ---- observing the site ---------------------------------------------------------------------

    def _observe(self, records: list[Record], outputs: list[str]) -> Seen:
        try:
            return self._observe_site(records, outputs)
        except Exception as error:  # noqa: BLE001 - a site that cannot be read is a verdict
            return Seen(None, {}, None, unreadable=f"{type(error).__name__}: {error}")

    def _observe_site(self, records: list[Record], outputs: list[str]) -> Seen:
        stage = self.stage
        self._restart_application()
        found = version_of(stage.demo)
        # A release that turned bad and was confirmed nevertheless accepts no case by design.
        entered = (
            found.whole == TURNS_BAD
            or stage.demo.maintenance_file.exists()
            or self._can_user_enter_case()
        )
        different: list[str] = []
        if found.whole in stage.expected:
            different = find_differences(stage.expected[found.whole], picture(stage.place))
        live = {}
        for name, where in locate_databases(stage.place).items():
            live.update(read_keys(stage.place, name, where))
        retained: dict[str, dict[str, frozenset[str]]] = {}
        reported_sets: set[str] = set()
        lost = find_missing_records(records, live)
        if lost:
            retained = self._read_retained_keys()
            reported_sets = self._find_named_sets(retained, outputs)
        now = stage.read_attributes()
        attributes = [
            f"{name}: {now.get(name)}, before {was}"
            for name, was in stage.attributes.items()
            if now.get(name) != was
        ]
        verify = self._run(stage.nursery, ["verify"])
        said = _document(verify.output)
        strict = [
            f"{f.get('code')} {f.get('title')}" for f in said.get("findings", ())
            if f.get("severity") == "critical"
        ]  # fmt: skip
        if verify.code != 0 and not strict:
            strict = [_one_line(verify)]
        return Seen(
            code=found.code,
            schemas=dict(found.schemas),
            reported=found.reported,
            different=tuple(different),
            live=live,
            retained=retained,
            reported_sets=frozenset(reported_sets),
            maintenance_off=not stage.demo.maintenance_file.exists(),
            user_can_work=entered,
            attributes=tuple(attributes),
            verify=tuple(strict),
            left=tuple(self._list_leftovers()),
        )

    def _can_user_enter_case(self) -> bool:
        """Return whether a user can enter a case; try again if sessions were broken."""
        return any(self.users.enter("DRUG", "OTH") for _ in range(3))

    def _list_leftovers(self) -> list[str]:
        stage = self.stage
        engine = site_in_process(stage.demo).database_engine
        found = [
            f"a copy {row}" for row in engine.list_leftovers() if row[1] is DatabaseRole.CANDIDATE
        ]
        if isinstance(stage.place, SqlitePlace):
            found += [f"a fence {p.name}" for p in stage.place.directory.glob("live.fenced*")]
            return found
        if stage.server is not None and isinstance(stage.place, PostgresPlace):
            with superuser(stage.place, "postgres") as session:
                known = {str(r[0]) for r in session.execute("SELECT oid FROM pg_database")}
            known |= {str(oid) for oid in stage.administrator_oids}
            there = {item.name for item in (stage.server.data / "base").iterdir()}
            found += [
                f"a directory {name} without a database"
                for name in there - known
                if name.isdigit() and any((stage.server.data / "base" / name).iterdir())
            ]
        return found

    def _read_retained_keys(self) -> dict[str, dict[str, frozenset[str]]]:
        """Return the keys in every set except the live one, closed databases included."""
        stage = self.stage
        found: dict[str, dict[str, frozenset[str]]] = {}
        for path in stage.sets:
            with contextlib.suppress(Exception):
                keys = read_keys(stage.place, path.stem, str(path))
                tables = found.setdefault(path.parent.name, {})
                tables.update({table: frozenset(its) for table, its in keys.items()})
        if not isinstance(stage.place, PostgresPlace):
            return found
        for name, may in stage.list_other_databases().items():
            logical = next((n for n, p in stage.place.names.items() if name.startswith(p)), None)
            if logical is None:
                continue
            with contextlib.suppress(Exception), superuser(stage.place, "postgres") as session:
                if not may:
                    session.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
                keys = read_keys(stage.place, logical, name)
                found[name] = {table: frozenset(its) for table, its in keys.items()}
                if not may:
                    session.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        return found

    def _find_named_sets(self, retained: dict[str, Any], outputs: list[str]) -> set[str]:
        """Return the database sets that a finding, an unusual value or an unusual event names."""
        doctor = self._run(self.stage.nursery, ["doctor"])
        findings = [json.dumps(f) for f in _document(doctor.output).get("findings", ())]
        events = [text for kind, text in self.stage.events() if kind not in self._ordinary]
        said = [
            words for out in outputs for words in list_unusual_values(_document(out), self._keys)
        ]
        return find_named_sets(retained, "\n".join([*said, *findings, *events]))

    def _print_loss_interval(self, lost: list[Record], run: Run) -> None:
        """Log between which instants of the operation the lost records were acknowledged."""
        found: dict[str, int] = {}
        for record in lost:
            before = [i for i, at in run.instants.items() if at <= record.acknowledged]
            after = [i for i, at in run.instants.items() if at > record.acknowledged]
            words = f"{' '.join(before[-1]) if before else 'before'} and {' '.join(after[0]) if after else 'later'}"  # noqa: E501
            found[words] = found.get(words, 0) + 1
        for words, count in found.items():
            self._log_line(f"{count} of the lost were acknowledged between {words}")

    def _log_line(self, line: str) -> None:
        self.log.append(line.strip())


class _Striker:
    """Triggers one fault."""

    def __init__(self, history: History, run: Run, fault: Fault | None, words: list[str]) -> None:
        self._history, self._run, self._fault = history, run, fault
        self._stage = history.stage
        self._threads: list[threading.Thread] = []
        self._nursery: Nursery | None = None
        self._ended = threading.Event()
        kind = fault.kind if fault else ""
        steps = words[0] in ("upgrade", "rollback", "resume")
        self.by_time = kind == "SIGKILL at a time" or (bool(kind) and not steps)
        self._whole = kind in ("application slow to start", "application slow to stop")

    def begin(self, nursery: Nursery) -> None:
        """Prepare the faults that exist from the start, and start the timers."""
        self._nursery = nursery
        fault = self._fault
        if fault is None:
            return
        if "slow to start" in fault.kind:
            self._stage.delay_command(2.0, "start")
            self._run.struck = "struck" if self._whole else ""
        if "slow to stop" in fault.kind:
            self._stage.delay_command(1.6, "stop")
            self._run.struck = "struck"
        if self.by_time:
            last = nursery.pid

            def soon() -> None:
                if not self._ended.wait(fault.seconds) and nursery.pid != last:
                    self._by_time(nursery.pid, fault)

            self._thread(soon)

    def end(self) -> None:
        """Wait for the threads."""
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _thread(self, act: Callable[[], None]) -> None:
        thread = threading.Thread(target=act, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _by_time(self, pid: int, fault: Fault) -> None:
        with contextlib.suppress(ProcessLookupError):
            if fault.kind == "SIGKILL of the server":
                self._server_killed(back=True)
            else:
                os.kill(pid, signal.SIGTERM if fault.kind == "SIGTERM" else signal.SIGKILL)
                self._run.struck = "struck"

    def strike(self, pid: int) -> None:
        """Trigger the fault at its instant; the agent is stopped until this returns."""
        fault, self._fault = self._fault, None
        if fault is None:
            return
        acts: dict[str, Callable[[int, Fault], None]] = {
            "SIGKILL at an instant": self._signal,
            "SIGTERM": self._signal,
            "SIGKILL of the server": lambda *_: self._server_killed(back=True),
            "SIGKILL of the server, back later": lambda *_: self._server_killed(back=False),
            "a session ended": lambda *_: self._session_ended(),
            "second agent, first dies": self._second_agent,
            "second agent, first goes on": self._second_agent,
            "disk of the agent full": lambda *_: self._fill("state"),
            "disk of the databases full": lambda *_: self._fill("disk"),
            "application killed": lambda *_: self._application_killed(),
            "application slow to start, agent dies": self._kill_during_start,
            "old application started in the stop": lambda *_: self._old_application(),
        }
        if fault.kind.startswith("SIGKILL at a call"):
            self._at_call(pid, fault)
        elif fault.kind in acts:
            acts[fault.kind](pid, fault)

    def _signal(self, pid: int, fault: Fault) -> None:
        os.kill(pid, signal.SIGTERM if fault.kind == "SIGTERM" else signal.SIGKILL)
        self._run.struck = "struck"

    def _fill(self, what: str) -> None:
        if self._stage.fill(what):
            self._run.struck = "struck"

    def _at_call(self, pid: int, fault: Fault) -> None:
        ready = threading.Event()
        victim: int | None = pid
        if fault.kind.endswith("application"):
            victim = self._application_pid()
            self._history._killed_app = True
        elif fault.kind.endswith("server process"):
            victim = self._find_backend()

        def count() -> None:
            target = victim
            if fault.kind.endswith("child"):
                ready.set()
                target = self._child(pid)
            number = fault.number
            if target is None:
                ready.set()
                self._run.struck = "nothing to strike"
                return
            wake = target == pid
            self._run.struck = kill_at_call(
                target, min(number, 150) if target != pid else number, after=fault.after, wake=wake,
                seized=ready,
            )  # fmt: skip
            ready.set()

        self._thread(count)
        ready.wait(5)

    def _child(self, pid: int) -> int | None:
        while not self._ended.wait(0.003):
            found = descendants(pid)
            if found:
                return found[-1]
        return None

    def _application_pid(self) -> int | None:
        try:
            return int((self._stage.demo.run / "ncen.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _find_backend(self) -> int | None:
        place = self._stage.place
        if not isinstance(place, PostgresPlace):
            return None
        with superuser(place, "postgres") as session:
            row = session.execute(
                "SELECT pid FROM pg_stat_activity WHERE usename = ANY(%s)"
                " ORDER BY random() LIMIT 1",
                ([place.agent, place.owner],),
            ).fetchone()
            if row is None:  # the agent opens one a moment later: use a process of the server
                row = session.execute(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type IN"
                    " ('checkpointer', 'background writer', 'walwriter') ORDER BY random() LIMIT 1"
                ).fetchone()
        return int(row[0]) if row else None

    def _server_killed(self, *, back: bool) -> None:
        server = self._stage.server
        if server is None or server.pid() is None:
            return
        server.kill()
        self._run.struck = "struck"
        if back:
            server.start()

    def _session_ended(self) -> None:
        place = self._stage.place
        if not isinstance(place, PostgresPlace):
            return
        with superuser(place, "postgres") as session:
            found = session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY(%s)",
                ([place.agent, place.owner],),
            ).fetchall()
        self._run.struck = "struck" if found else "nobody had a session"

    def _second_agent(self, pid: int, fault: Fault) -> None:
        run = self._history._run(self._stage.second, ["resume"])
        self._history._log_line(f"second agent: resume -> {run.code}")
        self._run.struck = "struck"
        if "dies" in fault.kind:
            os.kill(pid, signal.SIGKILL)

    def _application_killed(self) -> None:
        pid = self._application_pid()
        if pid is None:
            self._run.struck = "it did not run"
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self._history._killed_app = True
            self._run.struck = "struck"

    def _kill_during_start(self, pid: int, fault: Fault) -> None:
        def die() -> None:
            time.sleep(min(fault.seconds, 1.5))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._run.struck = "struck"

        self._thread(die)

    def _old_application(self) -> None:
        """Start the old application by hand, as somebody does who sees that it is stopped."""
        demo = self._stage.demo
        slot = demo.slots / self._history.version
        ended = subprocess.run(
            [sys.executable, "-B", str(slot / "app/bin/ncenctl"), "start"],
            env={**os.environ, **demo.environment()}, check=False, capture_output=True, timeout=40,
        )  # fmt: skip
        self._run.struck = "struck" if ended.returncode == 0 else "it did not start"


def _document(output: str) -> dict[str, Any]:
    """Extract the JSON document from the output of a command; empty without one."""
    start, end = output.find("{"), output.rfind("}")
    with contextlib.suppress(ValueError):
        found = json.loads(output[start : end + 1])
        if isinstance(found, dict):
            return found
    return {}


def _one_line(run: Run) -> str:
    """Return the output of a command in one line."""
    document = _document(run.output)
    error = document.get("error")
    if error:
        return f"{error.get('code')} {error.get('title')}"
    decision = document.get("decision")
    return str(decision.get("reason")) if decision else run.output[-300:]
