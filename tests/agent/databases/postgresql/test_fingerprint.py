"""The fingerprint sees what programs rely on, also where no table changes, and nothing else."""

from __future__ import annotations

from ncen_updater.agent.databases.base import Live
from tests.agent.databases.postgresql.site import Site

STAMP = (
    "CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN {body} RETURN NEW; END $$"
)
MADE = (
    STAMP.format(body=""),
    "CREATE TRIGGER stamped BEFORE UPDATE ON cases FOR EACH ROW EXECUTE FUNCTION stamp()",
)
CHANGES = (
    "CREATE FUNCTION more() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    STAMP.format(body="NEW.id := NEW.id;"),
    "ALTER FUNCTION stamp() SECURITY DEFINER",
    "CREATE TRIGGER again AFTER INSERT ON cases FOR EACH ROW EXECUTE FUNCTION stamp()",
    "ALTER TABLE cases DISABLE TRIGGER stamped",
    "DROP TRIGGER stamped ON cases",
)


def _shape(site: Site) -> str:
    return site.engine().fingerprint(Live("seizure"))


def test_functions_and_triggers_count(site: Site) -> None:
    site.sql("t_seizure", *MADE)
    seen = {_shape(site): "before"}
    for change in CHANGES:
        site.sql("t_seizure", change)
        shape = _shape(site)
        assert shape not in seen, (change, seen[shape])
        seen[shape] = change


def test_made_anew_the_shape_is_the_same(site: Site) -> None:
    site.sql("t_seizure", *MADE)
    shape = _shape(site)
    site.sql("t_seizure", "DROP TRIGGER stamped ON cases", "DROP FUNCTION stamp()", *MADE)
    assert _shape(site) == shape
