"""Trials as JSON lines, and several runs summed to tables."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.histories.history import Trial


def format_line(trial: Trial, run: Mapping[str, Any]) -> str:
    """Return a trial as one line of JSON."""
    return json.dumps(
        {
            **run,
            "number": trial.number,
            "before": trial.before,
            "after": trial.after,
            "kind": str(trial.verdict.kind),
            "reasons": list(trial.verdict.reasons),
            "agreed": len(trial.verdict.agreed),
            "set_aside": len(trial.verdict.set_aside),
            "struck": trial.struck,
            "stranger": trial.stranger,
            "resumes": trial.resumes,
            "records": trial.records,
            "seconds": trial.seconds,
            "plan": trial.plan.to_json(),
            "log": [text[:500] for text in trial.log],
        },
        ensure_ascii=False,
    )


def read_reports(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Read every trial of several reports."""
    return [
        json.loads(text) for file in files for text in file.read_text("utf-8").splitlines() if text
    ]


def format_tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return Markdown tables: by site and seed, by operation, and every trial that was wrong."""
    return "\n".join(
        [
            *_sites(rows),
            "",
            *_shares("operation", rows, lambda row: row["plan"]["operation"]),
            "",
            *_shares(
                "fault",
                rows,
                lambda row: (row["plan"]["fault"] or {"kind": "none"})["kind"],
            ),
            "",
            *_shares("stranger", rows, lambda row: row["plan"]["stranger"] or "nobody"),
            "",
            *_wrong(rows),
        ]
    )


def _site(row: Mapping[str, Any]) -> str:
    return f"{row['engine']} {row['server'] or ''}".strip()


def _sites(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        found[_site(row), str(row["seed"])].append(row)
        found["**all**", ""].append(row)
    lines = [
        "| site | seed | trials | ok | refused as it should | wrong | undisturbed | faults"
        " | resumes | acknowledged | lost by consent | retained and reported | seconds a trial |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (site, seed), its in sorted(
        found.items(), key=lambda item: (item[0][0] == "**all**", *item[0])
    ):
        kinds = Counter(row["kind"] for row in its)
        quiet = sum(not row["plan"]["fault"] and not row["plan"]["stranger"] for row in its)
        struck = sum(row["struck"].startswith("struck") for row in its)
        cells = [
            site, seed, len(its), kinds["ok"], kinds["refused as it should"], kinds["WRONG"],
            quiet, struck, sum(r["resumes"] for r in its), sum(r["records"] for r in its),
            sum(r["agreed"] for r in its), sum(r["set_aside"] for r in its),
            round(sum(r["seconds"] for r in its) / len(its), 1),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _shares(
    name: str, rows: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], str]
) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[of(row)].update(["trials", row["kind"]])
        if name == "fault" and row["struck"].startswith("struck"):
            counts[of(row)].update(["struck"])
    struck = name == "fault"
    lines = [
        f"| {name} | trials |{' struck |' if struck else ''} wrong |",
        f"|---|---|{'---|' if struck else ''}---|",
    ]
    for key, its in sorted(counts.items()):
        middle = f" {its['struck']} |" if struck else ""
        lines.append(f"| {key} | {its['trials']} |{middle} {its['WRONG']} |")
    return lines


def _wrong(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    wrong = [row for row in rows if row["kind"] == "WRONG"]
    if not wrong:
        return ["No trial was wrong."]
    lines = [
        "| site | seed, trial | operation | fault | stranger | wrong |",
        "|---|---|---|---|---|---|",
    ]
    for row in wrong:
        plan = row["plan"]
        reasons = "; ".join(row["reasons"]).replace("|", "/").replace("\n", " ")
        fault = (plan["fault"] or {"kind": "none"})["kind"]
        lines.append(
            f"| {_site(row)} | {row['seed']}, {row['number']} | {plan['operation']} from"
            f" {row['before']} | {fault} | {plan['stranger'] or 'nobody'} | {reasons[:300]} |"
        )
    return lines
