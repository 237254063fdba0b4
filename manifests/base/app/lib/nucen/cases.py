"""Pages for users: list, show and create cases, search for persons."""

import secrets
import time
from datetime import datetime, timezone

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _now(store):
    now = datetime.now(timezone.utc)
    return now if store.engine == "postgresql" else now.isoformat()


def new_reference(country):
    """Return a reference that no other case has: the time and eight random characters."""
    now = datetime.now(timezone.utc)
    tail = "".join(secrets.choice(ALPHABET) for _ in range(8))
    return f"{country}-{now.year}-{int(time.time() * 1000):X}-{tail}"


def create(stores, country, fields, release):
    """Write a case into all three databases, the case itself first; return its reference."""
    seizures, suspects, companies = (stores[n] for n in ("seizures", "suspects", "companies"))
    ref = new_reference(country)
    now = _now(seizures)
    cultural = fields.get("category") == "CULT" and release != "3.2.4"

    def case(execute):
        execute(
            "INSERT INTO cases (case_ref, opened_at, office_code, officer, status, summary,"
            " total_value, currency) VALUES (?, ?, ?, ?, 'open', ?, ?, ?)",
            (
                ref, now, fields.get("office", "PORT1"), fields.get("officer", "officer"),
                fields.get("summary"), fields.get("value"), fields.get("currency"),
            ),
        )  # fmt: skip
        execute(
            "INSERT INTO offences (case_ref, category_code, description) VALUES (?, ?, ?)",
            (ref, fields.get("category", "OTH"), fields.get("description")),
        )
        execute(
            "INSERT INTO commodities (case_ref, commodity_code, quantity, unit)"
            " VALUES (?, ?, ?, 'PCE')",
            (ref, fields.get("commodity", "9705"), fields.get("quantity", 1)),
        )
        execute(
            "INSERT INTO routes (case_ref, position, country) VALUES (?, 1, ?)",
            (ref, fields.get("from", "ZZ")),
        )
        if cultural:
            execute(
                "INSERT INTO cultural_objects (case_ref, object_type) VALUES (?, ?)",
                (ref, fields.get("object", "statuette")),
            )
        execute(
            "INSERT INTO icomm_queue (case_ref, recipient, subject, body, queued_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (ref, "global-cen", f"Case {ref}", "Non-nominal part of the case.", now),
        )

    def person(execute):
        execute(
            "INSERT INTO persons (person_ref, family_name, given_names, workflow_state)"
            " VALUES (?, ?, ?, 'new')",
            ("P-" + ref, fields.get("family_name", "Unknown"), fields.get("given_names")),
        )
        if release != "3.2.4" and fields.get("own_script_name"):
            execute(
                "UPDATE persons SET own_script_name = ? WHERE person_ref = ?",
                (fields["own_script_name"], "P-" + ref),
            )
        execute("INSERT INTO case_links VALUES (?, ?, 'suspect')", ("P-" + ref, ref))

    def company(execute):
        execute(
            "INSERT INTO companies (company_ref, name, country) VALUES (?, ?, ?)",
            ("C-" + ref, fields.get("company", "Unknown"), fields.get("from", "ZZ")),
        )
        execute("INSERT INTO case_links VALUES (?, ?, 'importer')", ("C-" + ref, ref))

    seizures.run(case)
    suspects.run(person)
    companies.run(company)
    return ref


def listing(stores, limit=20):
    rows = stores["seizures"].rows(
        "SELECT case_ref, opened_at, office_code, status, summary FROM cases"
        " ORDER BY opened_at DESC LIMIT ?",
        (limit,),
    )
    names = ("case_ref", "opened_at", "office", "status", "summary")
    return [dict(zip(names, (str(v) if v is not None else None for v in row))) for row in rows]


def detail(stores, ref):
    """Return a case with what hangs on it in all three databases, or None."""
    seizures = stores["seizures"]
    rows = seizures.rows(
        "SELECT case_ref, opened_at, office_code, officer, status, summary FROM cases"
        " WHERE case_ref = ?",
        (ref,),
    )
    if not rows:
        return None
    names = ("case_ref", "opened_at", "office", "officer", "status", "summary")
    case = {n: (str(v) if v is not None else None) for n, v in zip(names, rows[0])}
    case["offences"] = [
        {"category": c, "description": d}
        for c, d in seizures.rows(
            "SELECT category_code, description FROM offences WHERE case_ref = ? ORDER BY id", (ref,)
        )
    ]
    case["persons"] = [
        r[0]
        for r in stores["suspects"].rows(
            "SELECT person_ref FROM case_links WHERE case_ref = ? ORDER BY person_ref", (ref,)
        )
    ]
    case["companies"] = [
        r[0]
        for r in stores["companies"].rows(
            "SELECT company_ref FROM case_links WHERE case_ref = ? ORDER BY company_ref", (ref,)
        )
    ]
    return case


def search(stores, text, release):
    """Find persons by the beginning of a name; from 3.3.0 on also by alias and in any case."""
    text = text.replace("\\", "").replace("%", "").replace("_", "")[:100]
    if release == "3.2.4":
        sql = (
            "SELECT person_ref, family_name, given_names FROM persons"
            " WHERE family_name LIKE ? ORDER BY person_ref LIMIT 20"
        )
        values = (text + "%",)
    else:
        sql = (
            "SELECT person_ref, family_name, given_names FROM persons"
            " WHERE search_name LIKE ? OR own_script_name LIKE ? OR person_ref IN"
            " (SELECT person_ref FROM aliases WHERE search_alias LIKE ?)"
            " ORDER BY person_ref LIMIT 20"
        )
        values = (text.lower() + "%", text + "%", text.lower() + "%")
    return [
        {"person_ref": ref, "family_name": family, "given_names": given}
        for ref, family, given in stores["suspects"].rows(sql, values)
    ]
