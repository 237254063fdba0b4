"""Realistic records of the stand-in: names, texts and whole cases from a seed. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from random import Random

Row = tuple[object, ...]
TableRows = dict[str, list[Row]]
_Next = Callable[[str], int]

START = datetime(2014, 1, 1, 6, tzinfo=UTC)
MINUTES = 10 * 365 * 24 * 60

FAMILY = (
    "Ramgoolam", "Nguyễn", "O'Brien", "D'Ávila", "Müller", "Müller-Lüdenscheidt", "Smith", "García",
    "Ndiaye", "Okonkwo", "Иванов", "Петрова", "გელაშვილი", "ბერიძე", "王", "李", "محمد", "الخطيب",
    "ສີສະຫວາດ", "Perera", "සිල්වා", "Tanaka", "田中", "de la Cruz", "Ó Súilleabháin", "%_\\",
    "Rasoanaivo", "Botha", "Kamau", "Nakamura",
)  # fmt: skip
GIVEN = (
    "Jean-Luc", "María José", "Anna", "Василий", "ნინო", "伟", "فاطمة", "Thị Hương", "Amadou",
    "Chukwuemeka", "Siobhán", "Kwame", "Lakshmi", "Sione", "Björk", "ສົມພອນ",
)  # fmt: skip
COMPANIES = (
    "Indian Ocean Trading", "Frères Diallo & Cie", "O'Neill's Imports", "Торговый дом «Восток»",
    "深圳市贸易有限公司", "شركة النور", "Müller GmbH", "Café Comptoir", "Global Freight 24/7",
)  # fmt: skip
CITIES = ("Port Louis", "Nairobi", "თბილისი", "Colombo", "Ha Noi", "São Paulo", "Vientiane")
COUNTRIES = ("MU", "KE", "GE", "LK", "VN", "BR", "LA", "CN", "ZA", "FR", "AE")
OFFICES = ("PORT1", "AIR1", "AIR2", "POST1", "LAND1")
CATEGORIES = ("DRUG", "TOB", "IPR", "CITES", "WEAP", "CASH", "WASTE", "OTH")
CITES = ("C01", "C02", "C03", "C04", "C05", "C06", "C07", "C08", "C09", "C10")
COMMODITIES = {
    "0106": "PCE", "1207": "KGM", "2402": "STK", "2933": "KGM", "4403": "MTQ",
    "6403": "PAR", "7108": "GRM", "9303": "PCE", "9601": "KGM", "9705": "PCE",
}  # fmt: skip
CODES = tuple(COMMODITIES)
SENTENCES = (
    "Concealed in a double bottom of the suitcase.",
    "Le déclarant a indiqué « effets personnels ».",
    "The driver said: 'it isn't mine'.",
    "Груз скрыт за обшивкой контейнера.",
    "تم العثور على البضاعة داخل الشاحنة.",
    "Scan image showed a dense mass; the container was opened.",
    "Profile hit, route unusual for this kind of goods.",
    'Line one\nline two\twith a tab, a \\ and a "quote".',
)
OFFICERS = ("a.seenauth", "j.o'hara", "m.diop", "თ.კაპანაძე", "l.wong", "p.fernando")

COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    "seizures": {
        "cases": ("case_ref", "opened_at", "office_code", "officer", "status", "summary",
                  "total_value", "currency"),
        "offences": ("id", "case_ref", "category_code", "cites_class", "description"),
        "commodities": ("id", "case_ref", "commodity_code", "quantity", "unit", "concealment"),
        "conveyances": ("id", "case_ref", "kind", "identifier", "flag"),
        "routes": ("case_ref", "position", "country", "place"),
        "photographs": ("id", "case_ref", "file_name", "sha256", "taken_at", "caption"),
        "icomm_queue": ("id", "case_ref", "recipient", "subject", "body", "queued_at", "sent_at"),
    },
    "suspects": {
        "persons": ("person_ref", "family_name", "given_names", "birth_date", "nationality",
                    "workflow_state", "assigned_officer", "notes"),
        "aliases": ("id", "person_ref", "alias"),
        "identity_documents": ("id", "person_ref", "kind", "number", "country", "expires"),
        "case_links": ("person_ref", "case_ref", "role"),
    },
    "companies": {
        "companies": ("company_ref", "name", "legal_form", "registration", "country", "turnover"),
        "addresses": ("id", "company_ref", "line", "city", "postcode", "country"),
        "case_links": ("company_ref", "case_ref", "role"),
    },
}  # fmt: skip


@dataclass
class _Ids:
    """Counters of the tables with an integer key."""

    last: dict[str, int]

    def next(self, table: str) -> int:
        self.last[table] = self.last.get(table, 0) + 1
        return self.last[table]


def case_reference(number: int) -> str:
    """Return the reference of a generated case by its number, counted from 1."""
    return f"MU-{START.year + number % 10}-{number:07d}"


def photo_content(file_name: str) -> bytes:
    """Return the content of a picture file, which is a short text."""
    return f"stand-in picture {file_name}\n".encode() * 40


def rows(seed: int, cases: int, batch: int = 5_000) -> Iterator[tuple[str, TableRows]]:
    """Generate the records of all three databases, in batches that fit in memory.

    Args:
        seed: The same seed gives the same records.
        cases: Number of cases, from which all other numbers follow.
        batch: Cases, persons or companies per batch.

    Yields:
        Database and the rows of its tables, parents before children.
    """
    # A fast generator is enough: the records are not secret, only reproducible.
    random = Random(seed)  # noqa: S311
    ids = _Ids({})
    for first in range(1, cases + 1, batch):
        numbers = range(first, min(first + batch, cases + 1))
        yield "seizures", _case_batch(random, ids, numbers)
    ids = _Ids({})
    for first in range(1, max(cases * 2 // 3, 1) + 1, batch):
        numbers = range(first, min(first + batch, max(cases * 2 // 3, 1) + 1))
        yield "suspects", person_rows(random, ids.next, numbers, cases)
    ids = _Ids({})
    for first in range(1, max(cases // 3, 1) + 1, batch):
        numbers = range(first, min(first + batch, max(cases // 3, 1) + 1))
        yield "companies", company_rows(random, ids.next, numbers, cases)


def _case_batch(random: Random, ids: _Ids, numbers: Sequence[int]) -> TableRows:
    out: TableRows = {table: [] for table in COLUMNS["seizures"]}
    for number in numbers:
        _case(random, ids, number, out)
    return out


def _case(random: Random, ids: _Ids, number: int, out: TableRows) -> None:
    ref = case_reference(number)
    opened = START + timedelta(minutes=random.randrange(MINUTES), microseconds=number % 1000)
    value = None if random.random() < 0.3 else Decimal(random.randrange(1, 90_000_000)) / 100
    out["cases"].append(
        (
            ref, opened, random.choice(OFFICES), random.choice(OFFICERS),
            random.choice(("open", "referred", "closed", "closed")), _text(random), value,
            None if value is None else random.choice(("MUR", "EUR", "USD")),
        )
    )  # fmt: skip
    for _ in range(random.choice((1, 1, 1, 2))):
        category = random.choice(CATEGORIES)
        cites = random.choice(CITES) if category == "CITES" else None
        # Any number of cases includes some whose CITES class has no target in 3.3.0.
        if number % 97 == 5:
            category, cites = "CITES", "C10"
        out["offences"].append((ids.next("offences"), ref, category, cites, _text(random)))
    for _ in range(random.choice((1, 1, 2, 3))):
        code = random.choice(CODES)
        quantity = Decimal(random.randrange(1, 50_000_000)) / 1000
        out["commodities"].append(
            (ids.next("commodities"), ref, code, quantity, COMMODITIES[code], _text(random))
        )
    if random.random() < 0.7:
        kind = random.choice(("vessel", "aircraft", "vehicle", "parcel"))
        name = f"{kind[:2].upper()}{random.randrange(10**7):07d}"
        flag = random.choice((None, *COUNTRIES))
        out["conveyances"].append((ids.next("conveyances"), ref, kind, name, flag))
    for position in range(1, random.choice((2, 3, 4))):
        place = random.choice((None, *CITIES))
        out["routes"].append((ref, position, random.choice(COUNTRIES), place))
    if number % 10 == 1:
        name = f"{ref}-1.jpg"
        digest = hashlib.sha256(photo_content(name)).hexdigest()
        out["photographs"].append((ids.next("photographs"), ref, name, digest, opened, None))
    if random.random() < 0.4:
        sent = None if number % 500 == 3 else opened + timedelta(hours=1)
        out["icomm_queue"].append(
            (
                ids.next("icomm_queue"), ref, random.choice(("global-cen", "RILO ESA")),
                f"Case {ref}", "Non-nominal part. " + " ".join(SENTENCES[:3]), opened, sent,
            )
        )  # fmt: skip


def person_rows(random: Random, next_id: _Next, numbers: Sequence[int], cases: int) -> TableRows:
    """Generate persons with their details, each linked to one to three of the cases."""
    out: TableRows = {table: [] for table in COLUMNS["suspects"]}
    for number in numbers:
        ref = f"P-{number:07d}"
        state = random.choice(("new", "assigned", "reviewed"))
        born = date(1950, 1, 1) + timedelta(days=random.randrange(20_000))
        out["persons"].append(
            (
                ref, random.choice(FAMILY), random.choice((None, *GIVEN)),
                random.choice((None, born)), random.choice((None, *COUNTRIES)), state,
                random.choice(OFFICERS) if state != "new" else None, _text(random),
            )
        )  # fmt: skip
        if random.random() < 0.3:
            alias = f"{random.choice(GIVEN)} {random.choice(FAMILY)}"
            out["aliases"].append((next_id("aliases"), ref, alias))
        if random.random() < 0.8:
            out["identity_documents"].append(
                (
                    next_id("identity_documents"), ref, random.choice(("passport", "card")),
                    f"{random.randrange(10**9):09d}", random.choice(COUNTRIES),
                    random.choice((None, born + timedelta(days=25_000))),
                )
            )  # fmt: skip
        for case in _linked(random, number, cases):
            out["case_links"].append((ref, case, random.choice(("suspect", "courier", "witness"))))
    return out


def company_rows(random: Random, next_id: _Next, numbers: Sequence[int], cases: int) -> TableRows:
    """Generate companies with addresses, each linked to one to three of the cases."""
    out: TableRows = {table: [] for table in COLUMNS["companies"]}
    for number in numbers:
        ref, country = f"C-{number:07d}", random.choice(COUNTRIES)
        turnover = random.choice((None, Decimal(random.randrange(10**11)) / 100))
        registration = random.choice((None, f"R{random.randrange(10**8):08d}"))
        out["companies"].append(
            (
                ref, f"{random.choice(COMPANIES)} {random.randrange(900)}",
                random.choice((None, "Ltd", "SARL", "GmbH", "ЖШС")), registration, country,
                turnover,
            )
        )  # fmt: skip
        line = f"{random.randrange(1, 400)}, rue d'{random.choice(FAMILY)}"
        postcode = random.choice((None, f"{random.randrange(99_999):05d}"))
        out["addresses"].append(
            (next_id("addresses"), ref, line, random.choice(CITIES), postcode, country)
        )
        for case in _linked(random, number, cases):
            out["case_links"].append((ref, case, random.choice(("importer", "carrier", "owner"))))
    return out


def _linked(random: Random, number: int, cases: int) -> list[str]:
    found = {number % cases + 1}
    if random.random() < 0.3:
        found |= {random.randrange(cases) + 1 for _ in range(2)}
    return [case_reference(case) for case in sorted(found)]


def _text(random: Random) -> str | None:
    draw = random.random()
    if draw < 0.35:
        return None
    if draw > 0.995:
        return " ".join(random.choice(SENTENCES) for _ in range(60))
    return " ".join(random.choice(SENTENCES) for _ in range(1 + int(draw * 3)))
