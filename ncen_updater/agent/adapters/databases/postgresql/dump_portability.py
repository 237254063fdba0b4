"""Objects that a dump by an ordinary role can restore in a new database, and those that it cannot.

In a rehearsal ``pg_dump`` and ``pg_restore`` log in as the application's role, since they run code
that this role may have planted. A database administrator may have created objects that only a
superuser can create, or that this role cannot read or create: a template copy contains them, but a
dump lacks them or cannot be restored. The catalogue shows which these are while users still work.
:func:`read_database_contents` reads it, :func:`find_dump_obstacles` decides, and
:func:`choose_dump_options` selects how to dump and restore everything else.
"""

# ruff: noqa: S608 - every statement is made of constants of this module

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ncen_updater.agent.adapters.databases.postgresql.catalogue import read_server_major
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    Connection,
    execute,
    fetch_rows,
    quote_literal,
)


class PortabilityIssue(StrEnum):
    """Reason why a dump by an ordinary role does not contain an object, or cannot restore it."""

    SUPERUSER = "superuser"  # only a superuser can create it
    OWNER = "owner"  # its owner is a role that the restoring role cannot act as
    UNREAD = "unread"  # the dumping role may not read it: pg_dump fails
    ROWS = "rows"  # row-level security hides rows from the dumping role: pg_dump fails
    HIDDEN = "hidden"  # pg_dump silently omits it, or a part of it
    GRANTS = (
        # privileges granted by a role other than the owner, or changed on a system's object
        "grants"
    )
    TABLESPACE = "tablespace"  # the restoring role may not create objects in its tablespace
    LABEL = "label"  # a security label
    VERSION = "version"  # an extension whose version differs from the default one


@dataclass(frozen=True, order=True)
class CatalogueObject:
    """One object that needs attention.

    Attributes:
        kind: Kind of the object, in the server's words.
        name: Its identity, as the server writes it.
        catalogue: Object id of its catalogue.
        oid: Its object id.
        issues: Possible obstacles.
    """

    kind: str
    name: str
    catalogue: int
    oid: int
    issues: frozenset[PortabilityIssue]

    @property
    def label(self) -> str:
        """Return kind and name of the object."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class DatabaseContents:
    """Relevant contents of one database.

    Attributes:
        superuser: Whether both the dumping and the restoring role are superusers.
        items: Objects that are not simply the application's own.
    """

    superuser: bool
    items: Sequence[CatalogueObject] = ()


@dataclass(frozen=True)
class DumpObstacle:
    """Object that a dump does not contain or cannot restore, and the reasons."""

    item: CatalogueObject
    issues: frozenset[PortabilityIssue]


# Obstacle even for superusers: the extension would be restored in another version.
_FOR_SUPERUSERS = frozenset({PortabilityIssue.VERSION})


def find_dump_obstacles(contents: DatabaseContents) -> tuple[DumpObstacle, ...]:
    """Return the objects that a dump does not contain or cannot restore; pure."""
    found = []
    for item in sorted(contents.items, key=lambda item: (item.kind, item.name, item.oid)):
        issues = item.issues & _FOR_SUPERUSERS if contents.superuser else item.issues
        if issues:
            found.append(DumpObstacle(item, issues))
    return tuple(found)


# ---- reading the catalogue ---------------------------------------------------------------------

# (catalogue, column of the owner, column of the rights or NULL, further condition)
_OWNED = (
    ("pg_class", "relowner", "relacl",
     "relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'"
     " AND relnamespace <> 'pg_toast'::regnamespace AND relnamespace IS DISTINCT FROM"
     " to_regnamespace('information_schema')"),
    ("pg_proc", "proowner", "proacl",
     "pronamespace IS DISTINCT FROM to_regnamespace('information_schema')"),
    ("pg_type", "typowner", "typacl",
     "typcategory <> 'A' AND typnamespace IS DISTINCT FROM to_regnamespace('information_schema')"
     " AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class r"
     " WHERE r.oid = x.typrelid AND r.relkind = 'c'))"),
    ("pg_namespace", "nspowner", "nspacl", "nspname NOT LIKE 'pg\\_%%temp\\_%%'"
     " AND nspname <> 'information_schema'"),
    ("pg_collation", "collowner", "NULL::aclitem[]", "true"),
    ("pg_conversion", "conowner", "NULL::aclitem[]", "true"),
    ("pg_operator", "oprowner", "NULL::aclitem[]", "true"),
    ("pg_opclass", "opcowner", "NULL::aclitem[]", "true"),
    ("pg_opfamily", "opfowner", "NULL::aclitem[]", "true"),
    ("pg_language", "lanowner", "lanacl", "true"),
    ("pg_largeobject_metadata", "lomowner", "lomacl", "true"),
    ("pg_foreign_data_wrapper", "fdwowner", "fdwacl", "true"),
    ("pg_foreign_server", "srvowner", "srvacl", "true"),
    ("pg_ts_config", "cfgowner", "NULL::aclitem[]", "true"),
    ("pg_ts_dict", "dictowner", "NULL::aclitem[]", "true"),
    ("pg_statistic_ext", "stxowner", "NULL::aclitem[]", "true"),
    ("pg_publication", "pubowner", "NULL::aclitem[]", "true"),
    ("pg_event_trigger", "evtowner", "NULL::aclitem[]", "true"),
    ("pg_default_acl", "defaclrole", "NULL::aclitem[]", "true"),
)  # fmt: skip

# Objects that only a superuser can create, whichever role owns them.
_SUPERUSER_OBJECTS = (
    ("pg_event_trigger", "true"),
    ("pg_foreign_data_wrapper", "true"),
    ("pg_language", "true"),
    ("pg_opclass", "true"),
    ("pg_opfamily", "true"),
    ("pg_am", "true"),
    ("pg_ts_parser", "true"),
    ("pg_ts_template", "true"),
    ("pg_transform", "true"),
    ("pg_publication", "puballtables"),
    ("pg_type", "typtype = 'b' AND typcategory <> 'A'"),
    ("pg_cast", "castmethod = 'b' OR NOT EXISTS (SELECT FROM pg_type t"
     " WHERE t.oid IN (castsource, casttarget) AND pg_has_role({who}, t.typowner, 'USAGE'))"),
    ("pg_proc", "proleakproof OR prosupport <> 0 OR EXISTS (SELECT FROM pg_language l"
     " WHERE l.oid = prolang AND NOT (l.lanpltrusted"
     " AND has_language_privilege({who}, l.oid, 'USAGE')))"
     " OR EXISTS (SELECT FROM unnest(proconfig) c"
     " LEFT JOIN pg_settings p ON p.name = split_part(c, '=', 1)"
     " WHERE coalesce(p.context = 'superuser', true) AND NOT {granted})"),
)  # fmt: skip

_FIRST = 16384  # lower object ids are the system's own
_PUBLIC = 2200  # the schema public, which every database has initially
_BOOTSTRAP = 10  # the superuser created by initdb


def _build_issues_query(major: int, restorer: str) -> str:
    """Return the query for (catalogue, object, issue)."""
    who = f"{quote_literal(restorer)}::name"
    acts = f"pg_has_role({who}, {{role}}, 'USAGE')"
    if major >= 16:
        acts += f" AND pg_has_role({who}, {{role}}, 'SET')"
    privilege = f"has_parameter_privilege({who}, split_part(c, '=', 1), 'SET')"
    granted = privilege if major >= 15 else "false"
    parts = []
    for catalogue, owner, acl, condition in _OWNED:
        may, uses = acts.format(role=f"x.{owner}"), f"pg_has_role({who}, x.{owner}, 'USAGE')"
        member = _build_extension_member_condition(catalogue)
        named = "pg_largeobject" if catalogue == "pg_largeobject_metadata" else catalogue
        head = f"SELECT '{named}'::regclass::oid, x.oid, '{{fact}}' FROM {catalogue} x"
        parts.append(
            head.format(fact=PortabilityIssue.OWNER) + f" WHERE x.oid >= {_FIRST} AND NOT {member}"
            f" AND ({condition}) AND NOT ({may})"
        )
        if acl.startswith("NULL"):
            continue
        # Of objects of the system and of extensions only changed privileges are dumped.
        parts.append(
            head.format(fact=PortabilityIssue.GRANTS)
            + f" WHERE (x.oid < {_FIRST} OR {member}) AND ({condition}) AND NOT {uses}"
            f" AND x.{acl} IS DISTINCT FROM (SELECT i.initprivs FROM pg_init_privs i WHERE"
            f" i.objoid = x.oid AND i.classoid = '{catalogue}'::regclass AND i.objsubid = 0)"
        )
        # Granted by another role than the owner: restored with SET SESSION AUTHORIZATION.
        parts.append(
            head.format(fact=PortabilityIssue.GRANTS)
            + f" WHERE x.oid >= {_FIRST} AND NOT {member} AND ({condition})"
            f" AND EXISTS (SELECT FROM aclexplode(x.{acl}) a WHERE a.grantor <> x.{owner})"
        )
    for catalogue, condition in _SUPERUSER_OBJECTS:
        parts.append(
            f"SELECT '{catalogue}'::regclass::oid, x.oid, '{PortabilityIssue.SUPERUSER}' FROM "
            f"{catalogue} x"
            f" WHERE x.oid >= {_FIRST} AND NOT {_build_extension_member_condition(catalogue)}"
            f" AND ({condition.format(granted=granted, who=who)})"
        )
    tables = "'pg_class'::regclass::oid"
    belongs = _build_extension_member_condition("pg_class", "c")
    mine = f"c.oid >= {_FIRST} AND NOT {belongs} AND c.relpersistence <> 't'"
    parts += [
        # Privileges on columns and large objects depend on their table and their owner.
        f"SELECT {tables}, c.oid, '{PortabilityIssue.GRANTS}' FROM pg_class c JOIN pg_attribute t "
        "ON"
        f" t.attrelid = c.oid WHERE {mine} AND EXISTS (SELECT FROM aclexplode(t.attacl) a"
        " WHERE a.grantor <> c.relowner)",
        f"SELECT {tables}, c.oid, '{PortabilityIssue.UNREAD}' FROM pg_class c WHERE {mine}"
        " AND c.relkind IN ('r', 'p', 'm', 'v', 'S', 'f') AND c.relnamespace <>"
        " 'pg_toast'::regnamespace AND NOT (CASE WHEN c.relkind = 'S'"
        " THEN has_sequence_privilege(c.oid, 'SELECT')"
        " ELSE has_table_privilege(c.oid, 'SELECT') END"
        " AND has_schema_privilege(c.relnamespace, 'USAGE'))",
        f"SELECT {tables}, c.oid, '{PortabilityIssue.ROWS}' FROM pg_class c WHERE {mine}"
        " AND c.relkind IN ('r', 'p') AND row_security_active(c.oid)",
        f"SELECT {tables}, c.oid, '{PortabilityIssue.TABLESPACE}' FROM pg_class c WHERE {mine}"
        " AND c.relkind IN ('r', 'p', 'm', 'i', 'I') AND c.reltablespace <> 0"
        " AND c.relnamespace <> 'pg_toast'::regnamespace"
        f" AND NOT has_tablespace_privilege({who}, c.reltablespace, 'CREATE')",
        f"SELECT 'pg_database'::regclass::oid, d.oid, '{PortabilityIssue.TABLESPACE}' FROM "
        "pg_database d"
        " JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()"
        " AND t.spcname <> 'pg_default' AND NOT has_tablespace_privilege(t.oid, 'CREATE')",
        f"SELECT 'pg_largeobject'::regclass::oid, l.oid, '{PortabilityIssue.UNREAD}'"
        " FROM pg_largeobject_metadata l WHERE NOT pg_has_role(l.lomowner, 'USAGE')",
        # Its options are visible only to the role itself.
        f"SELECT 'pg_user_mapping'::regclass::oid, u.umid, '{PortabilityIssue.HIDDEN}' FROM "
        "pg_user_mappings u"
        " WHERE u.usename <> current_user",
        f"SELECT 'pg_subscription'::regclass::oid, s.oid, '{PortabilityIssue.HIDDEN}' FROM "
        "pg_subscription s"
        " JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()",
        f"SELECT s.classoid, s.objoid, '{PortabilityIssue.LABEL}' FROM pg_seclabels s WHERE "
        "s.classoid NOT IN"
        " ('pg_database'::regclass, 'pg_authid'::regclass, 'pg_tablespace'::regclass,"
        " 'pg_subscription'::regclass)",
        # An ordinary role can create only trusted extensions.
        f"SELECT 'pg_extension'::regclass::oid, e.oid, '{PortabilityIssue.SUPERUSER}' FROM "
        "pg_extension e"
        f" WHERE e.oid >= {_FIRST} AND NOT EXISTS (SELECT FROM pg_available_extensions a"
        " JOIN pg_available_extension_versions v ON v.name = a.name AND v.version ="
        " a.default_version WHERE a.name = e.extname AND (v.trusted OR NOT v.superuser))",
        f"SELECT 'pg_extension'::regclass::oid, e.oid, '{PortabilityIssue.VERSION}' FROM "
        "pg_extension e"
        " JOIN pg_available_extensions a ON a.name = e.extname"
        f" WHERE e.oid >= {_FIRST} AND a.default_version IS DISTINCT FROM e.extversion",
        f"SELECT 'pg_namespace'::regclass::oid, n.oid, '{PortabilityIssue.OWNER}' FROM "
        "pg_namespace n"
        f" WHERE n.oid = {_PUBLIC} AND "
        + (
            f"n.nspowner <> 'pg_database_owner'::regrole AND NOT ({acts.format(role='n.nspowner')})"
            if major >= 15
            # In this version pg_dump does not dump its owner.
            else f"n.nspowner <> {_BOOTSTRAP}"
        ),
    ]
    if major >= 15:
        parts.append(
            f"SELECT 'pg_publication'::regclass::oid, p.pnpubid, '{PortabilityIssue.SUPERUSER}'"
            " FROM pg_publication_namespace p"
        )
    return " UNION ".join(parts)


def _build_extension_member_condition(catalogue: str, alias: str = "x") -> str:
    return (
        f"EXISTS (SELECT FROM pg_depend m WHERE m.classid = '{catalogue}'::regclass"
        f" AND m.objid = {alias}.oid AND m.deptype = 'e')"
    )


def read_database_contents(connection: Connection, restorer: str) -> DatabaseContents:
    """Read the contents of one database from the catalogue only, so no code in it is run.

    Args:
        connection: A session in it, as the dumping role.
        restorer: The restoring role.
    """
    # A long statement on few rows: compiling it takes longer than running it.
    execute(connection, "SET jit = off; SET search_path = pg_catalog, pg_temp")
    superuser = bool(
        fetch_rows(
            connection,
            "SELECT bool_and(rolsuper) FROM pg_roles WHERE rolname IN (current_user, %s)",
            [restorer],
        )[0][0]
    )
    found = fetch_rows(
        connection,
        "SELECT o.type, coalesce(o.identity, f.oid::text), f.catalogue::int8, f.oid::int8,"
        " array_agg(DISTINCT f.fact)"
        f" FROM ({_build_issues_query(read_server_major(connection), restorer)}) f(catalogue, oid, "
        "fact),"
        " LATERAL pg_identify_object(f.catalogue, f.oid, 0) o GROUP BY 1, 2, 3, 4",
        [],
    )
    return DatabaseContents(
        superuser,
        tuple(
            sorted(
                (
                    CatalogueObject(
                        kind or "object",
                        name,
                        catalogue,
                        oid,
                        frozenset(map(PortabilityIssue, facts)),
                    )
                    for kind, name, catalogue, oid, facts in found
                ),
                key=lambda item: (item.kind, item.name, item.oid),
            )
        ),
    )


# ---- dumping everything else -------------------------------------------------------------------

# Leaving out an object of these kinds removes no object with privileges of its own.
_WITHOUT_PRIVILEGES = frozenset({"event trigger", "default acl", "publication", "user mapping"})
# With these issues the object can be restored with another owner, privileges or tablespace.
_RESTORED_DIFFERENTLY = frozenset(
    {
        PortabilityIssue.OWNER,
        PortabilityIssue.GRANTS,
        PortabilityIssue.TABLESPACE,
        PortabilityIssue.LABEL,
        PortabilityIssue.ROWS,
        PortabilityIssue.VERSION,
    }
)
# Kinds whose owner cannot differ, or whose creation needs further privileges.
_NEVER_RESTORED_DIFFERENTLY = frozenset(
    {"default acl", "publication", "event trigger", "large object"}
)


@dataclass(frozen=True)
class ExcludedObjects:
    """Objects to leave out, with all objects that depend on them.

    Attributes:
        objects: (catalogue, object).
        relations: (schema, name) of the tables, views and sequences among them.
        labels: Their descriptions, for messages.
    """

    objects: frozenset[tuple[int, int]] = frozenset()
    relations: frozenset[tuple[str, str]] = frozenset()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class DumpOptions:
    """Options for dump and restore.

    Attributes:
        dump_arguments: Further arguments of ``pg_dump``.
        restore_arguments: Further arguments of ``pg_restore``.
        excluded_objects: Objects to leave out with all objects that depend on them.
        tables_without_rows: Object ids of tables that are dumped without their rows.
    """

    dump_arguments: tuple[str, ...] = ()
    restore_arguments: tuple[str, ...] = ()
    excluded_objects: frozenset[tuple[int, int]] = frozenset()
    tables_without_rows: frozenset[int] = frozenset()


def choose_dump_options(obstacles: Sequence[DumpObstacle], owner: str) -> DumpOptions:
    """Return options that dump and restore everything except the obstacles; pure.

    Args:
        obstacles: Result of :func:`find_dump_obstacles`.
        owner: The application's role, which will own everything.
    """
    if not obstacles:
        return DumpOptions()
    # The server quotes an identity if necessary: as a pattern it matches only itself.
    dump: set[str] = {"--no-subscriptions"}
    # An excluded object's comment must go, too, and the list of contents does not name it.
    restore: set[str] = {"--no-owner", f"--role={owner}", "--no-comments", "--no-subscriptions"}
    seeds: set[tuple[int, int]] = set()
    rowless: set[int] = set()
    for obstacle in obstacles:
        item, issues = obstacle.item, obstacle.issues
        key = (item.catalogue, item.oid)
        if issues & {PortabilityIssue.GRANTS, PortabilityIssue.OWNER, PortabilityIssue.UNREAD}:
            restore.add("--no-privileges")
        if PortabilityIssue.TABLESPACE in issues:
            restore.add("--no-tablespaces")
        if PortabilityIssue.LABEL in issues:
            restore.add("--no-security-labels")
        if item.kind == "large object":
            dump.add("--no-blobs")
        elif issues <= _RESTORED_DIFFERENTLY and item.kind not in _NEVER_RESTORED_DIFFERENTLY:
            if PortabilityIssue.ROWS in issues:
                dump.add(f"--exclude-table-data={item.name}")
                rowless.add(item.oid)
        else:
            if PortabilityIssue.UNREAD in issues:
                dump.add(f"--exclude-table={item.name}")
            if item.kind not in _WITHOUT_PRIVILEGES:
                restore.add("--no-privileges")
            seeds.add(key)
    return DumpOptions(
        tuple(sorted(dump)), tuple(sorted(restore)), frozenset(seeds), frozenset(rowless)
    )


_EXCLUDED_QUERY = """
WITH RECURSIVE gone(classid, objid) AS (
  SELECT * FROM unnest(%s::oid[], %s::oid[])
  UNION
  SELECT next.classid, next.objid FROM gone g, LATERAL (
    SELECT d.classid, d.objid FROM pg_depend d
    WHERE d.refclassid = g.classid AND d.refobjid = g.objid
    UNION ALL  -- the rule that makes a view
    SELECT d.refclassid, d.refobjid FROM pg_depend d
    WHERE g.classid = 'pg_rewrite'::regclass AND d.classid = g.classid AND d.objid = g.objid
      AND d.deptype = 'i'
    UNION ALL  -- what is written inside the statement that makes a table or a domain
    SELECT 'pg_class'::regclass::oid, a.adrelid FROM pg_attrdef a
    WHERE g.classid = 'pg_attrdef'::regclass AND a.oid = g.objid
    UNION ALL
    SELECT CASE WHEN c.conrelid <> 0 THEN 'pg_class'::regclass::oid
                ELSE 'pg_type'::regclass::oid END,
           CASE WHEN c.conrelid <> 0 THEN c.conrelid ELSE c.contypid END
    FROM pg_constraint c
    WHERE g.classid = 'pg_constraint'::regclass AND c.oid = g.objid AND c.contype = 'c'
  ) next
)
SELECT g.classid::int8, g.objid::int8, o.type, o.identity, n.nspname, c.relname
FROM gone g
CROSS JOIN LATERAL pg_identify_object(g.classid, g.objid, 0) o
LEFT JOIN pg_class c ON g.classid = 'pg_class'::regclass AND c.oid = g.objid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_NEEDS_ROWS = """
SELECT 'pg_constraint'::regclass::oid::int8, oid::int8 FROM pg_constraint
WHERE contype = 'f' AND confrelid = ANY(%s::oid[])
UNION ALL
SELECT 'pg_policy'::regclass::oid::int8, oid::int8 FROM pg_policy WHERE polrelid = ANY(%s::oid[])
"""
# Kinds that users know by name; all others belong to one of these.
_NAMED_KINDS = frozenset(
    {"table", "partitioned table", "view", "materialized view", "function", "domain"}
)


def find_excluded_objects(connection: Connection, options: DumpOptions) -> ExcludedObjects:
    """Return the objects that depend on excluded ones; reads the catalogue."""
    rowless = list(options.tables_without_rows)
    seeds = set(options.excluded_objects)
    seeds |= {(c, o) for c, o in fetch_rows(connection, _NEEDS_ROWS, [rowless, rowless])}
    if not seeds:
        return ExcludedObjects()
    found = fetch_rows(connection, _EXCLUDED_QUERY, [[c for c, _ in seeds], [o for _, o in seeds]])
    members = {
        (int(c), int(o))
        for c, o in fetch_rows(
            connection,
            "SELECT classid::int8, objid::int8 FROM pg_depend WHERE deptype = 'e'",
        )
    }
    return ExcludedObjects(
        frozenset((int(c), int(o)) for c, o, *_ in found),
        frozenset((schema, name) for *_, schema, name in found if name is not None),
        tuple(
            sorted(
                f"{kind} {identity}"
                for c, o, kind, identity, *_ in found
                if kind in _NAMED_KINDS
                and (c, o) not in members
                and (c, o) not in options.excluded_objects
            )
        ),
    )


# Entries without their own object id that belong to a relation.
_OF_RELATIONS = (
    "SEQUENCE SET",
    "SEQUENCE OWNED BY",
    "TABLE ATTACH",
    "INDEX ATTACH",
    "ROW SECURITY",
    "STATISTICS DATA",
)
_RELATIONS = 1259  # the catalogue pg_class


def filter_restore_list(contents: str, options: DumpOptions, excluded: ExcludedObjects) -> str:
    """Return the lines of ``pg_restore --list`` to restore; pure.

    Args:
        contents: Output of ``pg_restore --list``.
        options: The options of the dump.
        excluded: The excluded objects.
    """
    lines = []
    for line in contents.splitlines():
        number, _, rest = line.partition("; ")
        fields = rest.split(" ", 2)
        if not number.isdigit() or len(fields) < 3:
            continue
        catalogue, oid, entry = int(fields[0]), int(fields[1]), fields[2]
        is_excluded = (catalogue, oid) in excluded.objects
        if catalogue == 0:  # rows and row-level security of a table have its object id
            # An excluded object removes its foreign server, and so every user mapping.
            is_excluded = entry.startswith("USER MAPPING ") or (_RELATIONS, oid) in excluded.objects
            is_excluded |= oid in options.tables_without_rows and not entry.startswith(
                "TABLE DATA "
            )
            is_excluded |= any(
                entry.startswith(f"{kind} {schema} {name} ")
                for kind in _OF_RELATIONS
                for schema, name in excluded.relations
            )
        if not is_excluded:
            lines.append(line)
    return "\n".join(lines) + "\n"
