"""Tests of the proposal from observed facts: a table of machines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from ncen_updater.agent.setup.dialog import format_found
from ncen_updater.agent.setup.facts import (
    SLOTS,
    Cluster,
    FoundDatabase,
    FoundDisk,
    FoundHealth,
    FoundUnit,
    HbaRule,
    LoginSession,
    SiteFacts,
)
from ncen_updater.agent.setup.machine import ServerAddress
from ncen_updater.agent.setup.proposal import (
    DATABASES,
    Certainty,
    find_first_rule,
    make_logical_names,
    make_proposal,
)
from ncen_updater.agent.setup.proposal import HEALTH as HEALTH_URL
from ncen_updater.agent.setup.proposal import UNIT as UNIT_NAME
from ncen_updater.agent.setup.web_servers import APACHE, NGINX

ADDRESS = ServerAddress("/var/run/postgresql", 5432, 101, 104)
OWN = tuple(FoundDatabase(f"ncen_{name}", "ncen") for name in ("cases", "messages", "reference"))
OTHER = FoundDatabase("wiki", "wiki")
NAMES = {"cases": "ncen_cases", "messages": "ncen_messages", "reference": "ncen_reference"}
ONE = Cluster(ADDRESS, 17, "/hba", "/ident", OWN)
USED = replace(ONE, databases=(*OWN, OTHER), sessions=(LoginSession("ncen", "ncen_cases", True),))
UNIT = FoundUnit("ncen.service", "ncen", (8080,))
MAIL = FoundUnit("ncen-mail.service", "ncen")
WIKI = FoundUnit("wiki.service", "wiki", (8081,))
HEALTH = FoundHealth("http://127.0.0.1:8080", "/healthz", "3.2.4")
FILES = tuple(f"/var/lib/ncen/databases/live/{name}.sqlite" for name in ("cases", "messages"))


@dataclass(frozen=True)
class Row:
    """A machine, and what is decided of it."""

    name: str
    facts: SiteFacts
    engine: str = "postgresql"
    owner: str = "ncen"
    unit: str = "ncen.service"
    parts: tuple[str, ...] = ()
    certainties: tuple[str, ...] = ()
    health: FoundHealth | None = HEALTH
    names: dict[str, str] = field(default_factory=lambda: dict(NAMES))


SEEN, LIKELY, GUESSED = Certainty.SEEN, Certainty.LIKELY, Certainty.GUESSED
ROWS = [
    Row("all is seen at work", SiteFacts(clusters=(USED,), units=(UNIT, WIKI), health=(HEALTH,)),
        certainties=(SEEN, SEEN, SEEN)),
    Row("workers are parts",
        SiteFacts(clusters=(USED,), units=(MAIL, UNIT), health=(HEALTH,)),
        parts=("ncen-mail.service",), certainties=(SEEN, SEEN, SEEN)),
    Row("other services of the same user are no parts",
        SiteFacts(clusters=(USED,), units=(replace(WIKI, user="ncen", ports=()), UNIT),
                  health=(HEALTH,)),
        certainties=(SEEN, SEEN, SEEN)),
    Row("nothing is in use", SiteFacts(clusters=(ONE,), units=(UNIT,)),
        certainties=(LIKELY, LIKELY, GUESSED), health=None),
    Row("two owners, one by name",
        SiteFacts(clusters=(replace(ONE, databases=(*OWN, OTHER)),), units=(UNIT,)),
        certainties=(GUESSED, LIKELY, GUESSED), health=None),
    Row("two units, one by name", SiteFacts(clusters=(ONE,), units=(UNIT, MAIL)),
        parts=("ncen-mail.service",), certainties=(LIKELY, GUESSED, GUESSED), health=None),
    Row("two indistinguishable owners",
        SiteFacts(clusters=(replace(ONE, databases=(OTHER, FoundDatabase("a", "b"))),)),
        engine="", owner="", unit="", names={}, certainties=(GUESSED, GUESSED), health=None),
    Row("no unit at all", SiteFacts(clusters=(ONE,), health=(HEALTH,)), unit="",
        certainties=(LIKELY, GUESSED, LIKELY)),
    Row("health URLs of other services",
        SiteFacts(clusters=(USED,), units=(UNIT, WIKI),
                  health=(replace(HEALTH, url="http://127.0.0.1:3000"),
                          replace(HEALTH, url="http://127.0.0.1:9090"))),
        certainties=(SEEN, LIKELY, GUESSED), health=None),
    Row("files of SQLite",
        SiteFacts(units=(replace(UNIT, sqlite=FILES),), health=(HEALTH,)), engine="sqlite",
        owner="", names={"cases": "cases", "messages": "messages"},
        certainties=(SEEN, SEEN, SEEN)),
    Row("SQLite files without open handles", SiteFacts(sqlite=FILES), engine="sqlite",
        owner="", unit="", names={"cases": "cases", "messages": "messages"}, health=None,
        certainties=(LIKELY, GUESSED, GUESSED)),
    Row("files of SQLite in two places", SiteFacts(sqlite=(*FILES, "/srv/x/live/y.sqlite")),
        engine="", owner="", unit="", names={}, health=None, certainties=(GUESSED, GUESSED)),
    Row("an empty machine", SiteFacts(), engine="", owner="", unit="", names={}, health=None,
        certainties=(GUESSED, GUESSED)),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_proposal_is_decided(row: Row) -> None:
    found = make_proposal(row.facts, "ncen")
    assert (found.engine, found.owner, found.unit) == (row.engine, row.owner, row.unit)
    assert (found.parts, found.health, dict(found.names)) == (row.parts, row.health, row.names)
    asked = [one for one in found.guesses if one.what in (DATABASES, UNIT_NAME, HEALTH_URL)]
    assert tuple(guess.certainty for guess in asked) == row.certainties


SPACE, CLONES = FoundDisk(42_000_000_000), FoundDisk(42_000_000_000, clones=True)
DISK = "disk: 42.0 GB free in {}; files {} be cloned (sure)"
RECOMMENDED = "PostgreSQL 18 recommended: clones need almost no space and time"


@pytest.mark.parametrize(
    ("major", "disk", "copies"),
    [
        (17, SPACE, "full copies"),
        (18, SPACE, "full copies"),
        (17, CLONES, f"full copies; {RECOMMENDED}"),
        (18, CLONES, "clones, with almost no space and time"),
    ],
)
def test_copies_are_told_by_disk_and_version(major: int, disk: FoundDisk, copies: str) -> None:
    cluster = replace(USED, major=major, data_directory="/data")
    facts = SiteFacts(clusters=(cluster,), disks={"/data": disk, SLOTS: SPACE})
    assert [line.render() for line in format_found(make_proposal(facts, "ncen"))][-3:] == [
        DISK.format("/data", "can" if disk.clones else "cannot"),
        DISK.format(SLOTS, "cannot"),
        f"database copies: {copies} (likely)",
    ]


def test_files_of_sqlite_are_cloned_where_the_disk_can() -> None:
    live = "/var/lib/ncen/databases/live"
    facts = SiteFacts(sqlite=FILES, disks={live: CLONES, SLOTS: SPACE, "/x": SPACE})
    lines = [line.render() for line in format_found(make_proposal(facts, "ncen"))]
    assert lines[-3:] == [
        DISK.format(live, "can"),
        DISK.format(SLOTS, "cannot"),
        "database copies: clones, with almost no space and time (likely)",
    ]


def test_web_server_is_the_one_that_asks_the_application() -> None:
    sites = (
        (NGINX, "/etc/nginx/sites-enabled/ncen", "proxy_pass http://127.0.0.1:8080;"),
        (APACHE, "/etc/apache2/sites-enabled/wiki.conf", "ProxyPass / http://127.0.0.1:8081/"),
    )
    facts = SiteFacts(clusters=(USED,), units=(UNIT,), health=(HEALTH,), sites=sites)
    for some, expected in (
        (facts, "nginx, /etc/nginx/sites-enabled/ncen (sure)"),
        (replace(facts, sites=sites[1:]), "not found"),
        (replace(facts, health=()), "not found"),
    ):
        lines = [line.render() for line in format_found(make_proposal(some, "ncen"))]
        assert f"web server: {expected}" in lines


def test_given_answers_prevail() -> None:
    facts = SiteFacts(clusters=(USED,), units=(UNIT, WIKI))
    found = make_proposal(facts, "ncen", owner="wiki", unit="wiki.service")
    assert (found.owner, found.unit, dict(found.names)) == (
        "wiki",
        "wiki.service",
        {"wiki": "wiki"},
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ncen_cases"], {"cases": "ncen_cases"}),
        (["ncen"], {"ncen": "ncen"}),
        (["app_a", "app_b"], {"a": "app_a", "b": "app_b"}),
        (["cases", "mail"], {"cases": "cases", "mail": "mail"}),
        (["own_a", "b"], {"own_a": "own_a", "b": "b"}),
    ],
)
def test_logical_names_are_derived(names: list[str], expected: dict[str, str]) -> None:
    assert make_logical_names(names, "ncen", "own") == expected


RULES = (
    HbaRule(1, "local", ("all",), ("postgres",), "peer"),
    HbaRule(2, "host", ("all",), ("all",), "scram-sha-256"),
    HbaRule(3, "local", ("sameuser",), ("ncen",), "md5"),
    HbaRule(4, "local", ("ncen_cases",), ("+staff",), "reject"),
    HbaRule(6, "local", ("samerole",), ("all",), "trust"),
    HbaRule(7, "local", (r"/^old_\d$", "/*"), ("all",), "trust"),
    HbaRule(7, "local", (r"/^old_\d$",), ("/^nc",), "trust"),
    HbaRule(5, "local", ("all",), ("all",), "peer", ("map=own",)),
)


@pytest.mark.parametrize(
    ("role", "database", "line"),
    [
        ("postgres", "x", 1),
        ("ncen", "ncen", 3),
        ("ncen", "ncen_cases", 5),
        ("member", "ncen_cases", 4),
        ("below", "ncen_cases", 4),
        ("below", "staff", 6),
        ("ncen", "old_1", 7),
    ],
)
def test_first_matching_rule_is_found(role: str, database: str, line: int) -> None:
    members = {"member": frozenset({"staff"}), "below": frozenset({"member"})}
    cluster = replace(ONE, rules=RULES, members=members)
    found = find_first_rule(cluster, role, database)
    assert found is not None and found.line == line
