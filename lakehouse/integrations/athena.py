"""`lakehouse register athena`: a job's tables in AWS Glue's catalog, and the views over them in Athena.

They are those that `lakehouse sql athena` prints. The scored table's entry in Glue remembers which views are this job's
and of which definition, before and after they are made: what was stopped half way is finished by the next call, and a
view of somebody else's is never replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse import formats
from lakehouse.connectors import athena, delta
from lakehouse.errors import ConfigError
from lakehouse.storage import locate
from lakehouse.views import sql

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.views.sql.dialects import Statement

CREATED, UPDATED, UNCHANGED, LEFT_OUT = "created", "updated", "unchanged", "left out"
TABLE, VIEW = "table", "view"
_REGISTRATION = "lakehouse.registration"
"""The parameter of a scored table's entry that holds what is remembered."""
_READ = frozenset(["columnMapping", "deletionVectors", "timestampNtz"])
"""The features that a reader must know and that Athena is documented to know."""
_READERS = _READ | {
    "v2Checkpoint", "vacuumProtocolCheck", "typeWidening", "typeWidening-preview", "variantType", "variantType-preview",
    "variantShredding", "variantShredding-preview", "catalogManaged", "catalogOwned-preview",
}  # fmt: skip
"""The features of Delta that a reader must know; the others concern writers only."""


@dataclass(frozen=True)
class Change:
    """What was done with a table or view, or would be; `why` or what of it."""

    kind: str
    name: str
    action: str
    why: str = ""


@dataclass(frozen=True)
class Registered:
    """What there is to say of a registration: of each table and view, and what may not work as one thinks."""

    database: str
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


def register(job: Job, catalog: athena.Catalog, *, dry_run: bool = False) -> Registered:
    """Put the job's tables on S3 and the views over them into the catalog; `dry_run`: only say what there is to do.

    Raises ConfigError where something else of one of the names is there, before anything is changed.
    """
    found, left_out = sql.sections(job, "athena")
    changes, notes = list[Change](), [f"left out: {why}" for why in left_out]
    for section in found:
        place = _look(job, section, catalog)
        _refuse_others(place)
        changes += _changes(place)
        notes += place.notes
        if not dry_run:
            _carry_out(place)
    return Registered(catalog.database, tuple(changes), tuple(notes))


@dataclass(frozen=True)
class _Place:
    """How a section stands to the catalog.

    `tables`: what each table's entry should be, the scored one first; `views`: the statements that can be made now,
    `wanted` the digest of each. `there`: the entries of both. `missing`: tables that are not on S3 yet.
    `made`: of the views that this job has made, the digests of definition and of what Glue held afterwards.
    """

    job: str
    catalog: athena.Catalog
    tables: Mapping[str, dict[str, Any]]
    views: Mapping[str, Statement]
    wanted: Mapping[str, str]
    later: tuple[str, ...]
    missing: Mapping[str, str]
    there: Mapping[str, Mapping[str, Any] | None]
    owner: str | None
    made: Mapping[str, list[str]]
    notes: tuple[str, ...]

    @property
    def scored(self) -> str:
        return next(iter(self.tables))


def _look(job: Job, section: sql.Section, catalog: athena.Catalog) -> _Place:
    tables, missing, notes = dict[str, dict[str, Any]](), dict[str, str](), list[str]()
    for name, uri in section.tables.items():
        snapshot = delta.open_table(locate(uri))
        if snapshot is None:
            missing[name] = uri
            continue
        try:
            tables[name] = athena.delta_table(name, uri, snapshot.schema, snapshot.partition_columns)
        except ConfigError as error:
            raise ConfigError(f"{uri}: {error}") from error
        notes += _doubts(name, snapshot)
    first, uri = next(iter(section.tables.items()))
    if first in missing:
        raise ConfigError(f"{uri}: there is no table yet: run the job once, then register it")
    statements = {s.view: s for s in (*section.statements, *section.last) if s.view}
    views = {name: s for name, s in statements.items() if not s.reads & missing.keys()}
    there = {name: athena.entry(catalog, name) for name in (*tables, *views)}
    kept = ((there[first] or {}).get("Parameters") or {}).get(_REGISTRATION)
    content = json.loads(kept) if kept else {}
    formats.require(formats.REGISTRATION, content, f"Glue's table {catalog.database}.{first}")
    wanted = {name: _digest(s.sql, *(tables[read] for read in sorted(s.reads))) for name, s in views.items()}
    later = tuple(name for name in statements if name not in views)
    return _Place(
        job.job, catalog, tables, views, wanted, later, missing, there, content.get("job"), content.get("views", {}),
        tuple(notes),
    )  # fmt: skip


def _doubts(name: str, snapshot: delta.Snapshot) -> list[str]:
    """What Athena may not be able to read of a table."""
    unknown = sorted(snapshot.features & _READERS - _READ)
    said = f"{name}: Athena is not documented to read tables with {', '.join(unknown)}: try a query"
    return [said] if unknown else []


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _refuse_others(place: _Place) -> None:
    """Raise ConfigError where an entry of one of the names is somebody else's."""
    wrong = []
    for name, table in place.tables.items():
        entry = place.there[name]
        if entry is None:
            continue
        at = str((entry.get("StorageDescriptor") or {}).get("Location") or "")
        if entry.get("TableType") == "VIRTUAL_VIEW":
            wrong.append(f"{name} is a view")
        elif _folder(at) != _folder(table["StorageDescriptor"]["Location"]):
            wrong.append(f"{name} lies at {at or 'no place'}, not at {table['StorageDescriptor']['Location']}")
    if place.owner not in (None, place.job):
        wrong.append(f"{place.scored} was registered by the job {place.owner}")
    wrong += [
        f"{name} was not made by this job" for name in place.views if place.there[name] and name not in place.made
    ]
    if wrong:
        raise ConfigError(
            f"Glue's database {place.catalog.database} has what isn't this job's: {'; '.join(wrong)}. "
            "Name another --database, or drop these there"
        )


def _folder(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme.replace('s3a', 's3').replace('s3n', 's3')}://{rest.strip('/')}"


def _changes(place: _Place) -> list[Change]:
    tables = [Change(TABLE, name, *_of_table(table, place.there[name])) for name, table in place.tables.items()]
    absent = [Change(TABLE, name, LEFT_OUT, f"{uri} is no table yet") for name, uri in place.missing.items()]
    views = [Change(VIEW, name, *_of_view(place, name)) for name in place.views]
    return [*tables, *absent, *views, *(Change(VIEW, name, LEFT_OUT, "a table is missing") for name in place.later)]


def _of_table(table: Mapping[str, Any], there: Mapping[str, Any] | None) -> tuple[str, str]:
    """What is to be done with a table's entry, and what of it."""
    if there is None:
        return CREATED, ""
    before, now = _columns(there), _columns(table)
    told = [*(f"+{name} {kind}" for name, kind in now.items() if before.get(name) != kind)]
    told += [f"-{name} {kind}" for name, kind in before.items() if now.get(name) != kind]
    if told:
        return UPDATED, ", ".join(told)
    parameters = there.get("Parameters", {})
    same = list(before) == list(now) and table["Parameters"].items() <= parameters.items()
    return (UNCHANGED, "") if same else (UPDATED, "its parameters, or the order of its columns")


def _columns(entry: Mapping[str, Any]) -> dict[str, str]:
    columns = [*(entry.get("StorageDescriptor") or {}).get("Columns", ()), *(entry.get("PartitionKeys") or ())]
    return {column["Name"]: column["Type"] for column in columns}


def _of_view(place: _Place, name: str) -> tuple[str, str]:
    """What is to be done with a view, and why."""
    there = place.there[name]
    if there is None:
        return CREATED, ""
    definition, text = place.made[name]
    if definition != place.wanted[name]:
        return UPDATED, "its definition, or its tables' columns"
    return (UNCHANGED, "") if text == _digest(_text(there)) else (UPDATED, "somebody had changed it")


def _text(entry: Mapping[str, Any] | None) -> str:
    """What Glue holds of a view's definition, as Athena wrote it."""
    return str((entry or {}).get("ViewOriginalText") or "")


def _carry_out(place: _Place) -> None:
    """Tables first, and that the views are this job's; then the views; then that they are as they should be."""
    due = [name for name in place.views if _of_view(place, name)[0] != UNCHANGED]
    made = {**place.made, **{name: ["", ""] for name in due}}
    for name, table in place.tables.items():
        stale = due if name == place.scored else []
        if stale or _of_table(table, place.there[name])[0] != UNCHANGED:
            _put(place, name, place.there[name], made)
    for name in due:
        statement = place.views[name].sql
        athena.execute(place.catalog, statement, f"the view {place.catalog.database}.{name}")
    if due:
        made |= {name: [place.wanted[name], _digest(_text(athena.entry(place.catalog, name)))] for name in due}
        _put(place, place.scored, athena.entry(place.catalog, place.scored), made)


def _put(place: _Place, name: str, there: Mapping[str, Any] | None, made: Mapping[str, list[str]]) -> None:
    table = dict(place.tables[name])
    if name == place.scored:
        content = formats.with_version(formats.REGISTRATION, {"job": place.job, "views": made})
        table["Parameters"] = {**table["Parameters"], _REGISTRATION: json.dumps(content)}
    athena.put_table(place.catalog, table, there)
