"""Snowflake's types, statements and errors on duckdb, where fakesnow 0.12.1 has none or others; see snowflake_server.py.

Known differences: names that differ in case only ("a" and "A") are the same; a statement that fails after its
transaction has changed something ends that: until ROLLBACK all others fail, where Snowflake goes on; a transaction
sees what others commit until its own first change, not until its end; no length of a VARCHAR is enforced.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import fakesnow.arrow
import fakesnow.copy_into
import fakesnow.cursor
import fakesnow.info_schema
import fakesnow.rowtype
import fakesnow.server
import fakesnow.transforms
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from fakesnow.transforms import stage
from snowflake.connector.errors import OperationalError, ProgrammingError
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

Json = dict[str, Any]
Kind = exp.DataType.Type
DECLARED: dict[str, dict[str, dict[str, dict[str, exp.DataType]]]] = {}
"""The types of columns as CREATE and ALTER said, by database, schema and table: duckdb has fewer types."""
KINDS: ContextVar[list[tuple[str, exp.DataType | None]]] = ContextVar("KINDS")
"""A result's columns as Snowflake has them, name and type, where known; none where not."""
CHANGES: dict[tuple[str, str, str], tuple[Any, int]] = {}
"""What each table contained when it was last asked for, and the time then."""
TRAVEL: Json = {"tables": None, "retention": 86400.0}
"""Which tables Time Travel knows (a regular expression on their names), and for how many seconds."""
PAST: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
"""Of each table that Time Travel knows when it was changed, in ns, and the name of a copy of what it then contained."""
STAGE = r"""@((?:"(?:[^"]|"")+"|[^\s/"'])+)(?:/([^\s']*))?"""
ERRORS: list[tuple[type[duckdb.Error], str, int, str, str]] = [
    (duckdb.ConstraintException, "NOT NULL constraint failed", 100072, "22000", "NULL result in a non-nullable column"),
    (duckdb.ConversionException, r"[Cc]ast(?:ing)? value \"?([^\s\"]+)\"? to type DECIMAL.*out of range", 100039, "22003", "Numeric value '{}' is out of range"),
    (duckdb.ConversionException, r"cast value (\S+) to DECIMAL", 100039, "22003", "Numeric value '{}' is out of range"),
    (duckdb.ConversionException, r"convert string ['\"](.*)['\"] to (?:DECIMAL|DOUBLE|INT)", 100038, "22018", "Numeric value '{}' is not recognized"),
    (duckdb.OutOfRangeException, "(.*)", 100039, "22003", "Number out of representable range: {}"),
    (duckdb.CatalogException, r'with name "?([^"]+)"? already exists', 2002, "42710", "SQL compilation error:\nObject '{}' already exists."),
    (duckdb.CatalogException, r'because schema "(.*)" does not exist', 2003, "02000", "SQL compilation error:\nSchema '{}' does not exist or not authorized."),
    (duckdb.CatalogException, r"(?:Table|View) with name (.*) does not exist", 2003, "42S02", "SQL compilation error:\nObject '{}' does not exist or not authorized."),
    (duckdb.CatalogException, r"Function with name (\S+) does not exist", 2140, "42601", "SQL compilation error:\nUnknown function {}"),
    (duckdb.TransactionException, "Conflict on", 625, "57014", "Statement '...' has locked table '...' in transaction ... and this lock has not yet been released."),
    (duckdb.BinderException, r'Referenced column "(.*)" not found', 904, "42000", "SQL compilation error: error line 1 at position 0\ninvalid identifier '{}'"),
]  # fmt: skip
"""What duckdb says and what Snowflake says instead: number, SQLSTATE and text."""


def stream(table: pa.Table) -> bytes:
    """Rows as Snowflake sends them: NUMBERs in the narrowest integers that hold these rows, so chunks may differ."""
    columns, fields = [], []
    for column, field in zip(table.combine_chunks().columns, table.schema, strict=True):
        if field.metadata[b"logicalType"] == b"FIXED":
            array = column.combine_chunks()
            digits = pa.Array.from_buffers(pa.decimal128(38), len(array), array.buffers(), offset=array.offset)
            least, most = (value or 0 for value in pc.min_max(digits).as_py().values())
            for bits, narrow in ((7, pa.int8()), (15, pa.int16()), (31, pa.int32()), (63, pa.int64())):
                if -(2**bits) <= least and most < 2**bits:
                    column = digits.cast(narrow)
                    break
        columns.append(column)
        fields.append(field.with_type(column.type))
    return fakesnow.arrow.to_ipc(pa.Table.from_arrays(columns, schema=pa.schema(fields))).to_pybytes()


def as_sent(table: pa.Table, columns: list[Json]) -> pa.Table:
    """duckdb's rows with Snowflake's types; see `stream` for what becomes of NUMBERs."""
    arrays = [sent(array.combine_chunks(), column) for array, column in zip(table.columns, columns, strict=True)]
    fields = [
        pa.field(
            column["name"], array.type, column["nullable"],
            {"logicalType": column["type"].upper(), "precision": str(column["precision"] or 38),
             "scale": str(column["scale"] or 0), "charLength": str(column["length"] or 0), "byteLength": "16"},
        )
        for array, column in zip(arrays, columns, strict=True)
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def sent(array: pa.Array, column: Json) -> pa.Array:
    """One column, see `as_sent`."""
    kind, scale = column["type"], column["scale"]
    if kind == "fixed":
        return array.cast(pa.decimal128(column["precision"], scale))
    if kind == "real":
        return array.cast(pa.float64())
    if kind in ("boolean", "date", "binary"):
        return array
    if kind == "time":
        micros = array.cast(pa.time64("us")).cast(pa.int64())
        return pc.divide(micros, 10 ** (6 - scale)) if scale < 6 else pc.multiply(micros, 10 ** (scale - 6))
    if not kind.startswith("timestamp"):
        return array.cast(pa.string())
    moments = array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64()).cast(pa.timestamp("us"))
    if kind != "timestamp_tz" and scale <= 6:
        unit = 10 ** (6 - scale)
        return pc.divide(pc.floor_temporal(moments, unit, "microsecond").cast(pa.int64()), unit)
    whole = pc.floor_temporal(moments, unit="second")
    parts = {
        "epoch": pc.divide(whole.cast(pa.int64()), 10**6),
        "fraction": pc.multiply(pc.subtract(moments, whole).cast(pa.int64()), 1000).cast(pa.int32()),
        **({"timezone": pa.repeat(pa.scalar(1440, pa.int32()), len(array))} if kind == "timestamp_tz" else {}),
    }
    # NULL is the struct's own: the driver doesn't look at its members
    filled = [part.fill_null(0) for part in parts.values()]
    return pa.StructArray.from_arrays(filled, list(parts), mask=array.is_null())


def columns_of(described: list[tuple[Any, ...]]) -> list[Json]:
    """Snowflake's description of a result from duckdb's and from the types declared."""
    columns = fakesnow.rowtype.describe_as_rowtype(described)
    kinds = KINDS.get() if len(KINDS.get()) == len(columns) else [("", None)] * len(columns)
    for column, (_, _, null, *_), (name, kind) in zip(columns, described, kinds, strict=True):
        column["nullable"] = null == "YES"
        if name.upper() == column["name"].upper():  # duckdb tells `A AS "a"` as A
            column["name"] = name
        sizes = [int(size.name) for size in kind.expressions if isinstance(size, exp.DataTypeParam)] if kind else []
        if kind and column["type"] == "timestamp_tz" and kind.this == Kind.TIMESTAMPLTZ:
            column["type"] = "timestamp_ltz"
        if kind and column["type"] == "variant" and kind.this in (Kind.ARRAY, Kind.OBJECT):
            column["type"] = kind.this.value.lower()
        if column["type"].startswith("time"):
            column["scale"] = sizes[0] if sizes else 9
        elif column["type"] in ("text", "binary") and sizes:
            column["length"] = sizes[0]
            column["byteLength"] = sizes[0] if column["type"] == "binary" else min(4 * sizes[0], 2**24)
    return columns


def parsed(sql: str) -> exp.Expression | None:
    with suppress(SqlglotError):
        return sqlglot.parse_one(sql, read="snowflake")
    return None


def kinds_of(session: Any, query: exp.Expression | None) -> list[tuple[str, exp.DataType | None]]:
    """The columns of a query as Snowflake has them; none where that can't be told."""
    if not isinstance(query, exp.Query):
        return []
    schema = MappingSchema(DECLARED, dialect="snowflake", normalize=False)
    with suppress(SqlglotError):
        named = qualify(
            query.copy(), dialect="snowflake", schema=schema, catalog=session.database, db=session.schema,
            validate_qualify_columns=False, quote_identifiers=False,
        )  # fmt: skip
        columns = annotate_types(named, schema=schema, dialect="snowflake").selects
        return [(column.alias_or_name, column.type) for column in columns]
    return []


def full_name(session: Any, table: exp.Table) -> tuple[str, str, str]:
    """Database, schema and name of a table as Snowflake has them."""
    parts = [table.args.get(part) for part in ("catalog", "db", "this")]
    folded = [part and (part.name if part.quoted else part.name.upper()) for part in parts]
    return folded[0] or session.database, folded[1] or session.schema, folded[2]


def changed(session: Any, statement: exp.Expression | None) -> tuple[str, str, str] | None:
    """The table that a statement locks in Snowflake: one whose rows it changes or removes; adding rows locks nothing."""
    if not isinstance(statement, exp.Update | exp.Delete | exp.Merge | exp.TruncateTable) and not (
        isinstance(statement, exp.Insert) and statement.args.get("overwrite")
    ):
        return None
    return full_name(session, statement.find(exp.Table))


def declare(session: Any, statement: exp.Expression | None) -> None:
    """Remembers the types of the columns that a statement has made."""
    made = isinstance(statement, exp.Create | exp.Alter | exp.Drop) and statement.args.get("kind")
    if made not in ("TABLE", "VIEW"):
        return
    database, schema, name = full_name(session, statement.find(exp.Table))
    tables = DECLARED.setdefault(database, {}).setdefault(schema, {})
    columns = {
        column.name if column.this.quoted else column.name.upper(): column.kind
        for column in statement.find_all(exp.ColumnDef)
        if not column.args.get("exists")
    }
    sources = list(statement.find_all(exp.Table))[1:]
    if isinstance(statement, exp.Drop):
        tables.pop(name, None)
    elif isinstance(statement, exp.Alter):
        tables[name] = {**tables.get(name, {}), **columns}
    elif sources and not columns and not statement.expression:  # CLONE or LIKE
        source = full_name(session, sources[0])
        tables[name] = dict(DECLARED[source[0]][source[1]][source[2]])
    elif isinstance(statement.expression, exp.Query) and not columns:
        tables[name] = dict(kinds_of(session, statement.expression))
    elif not statement.args.get("exists") or name not in tables:
        tables[name] = columns


def stage_names(var: str, current_database: str, current_schema: str) -> tuple[str, ...]:
    """Database, schema and name of a stage; a dot, slash or apostrophe within a name is more than fakesnow can."""
    parts = re.findall(r'"((?:[^"]|"")+)"|([^".]+)', var)
    names = [quoted.replace('""', '"') or plain.upper() for quoted, plain in parts]
    return (*(current_database, current_schema)[: 3 - len(names)], *names)


def on_stage(session: Any, sql: str) -> str:
    """What fakesnow shall carry out instead of REMOVE, of LIST with a path, and of a stage in quotes."""
    if re.match(r"\s*(PUT|REMOVE|RM|LIST|LS|COPY)\b", sql, re.IGNORECASE):
        sql = re.sub(f"'({STAGE})'", r"\1", sql)
    found = re.fullmatch(rf"\s*(REMOVE|RM|LIST|LS)\s+{STAGE}\s*;?\s*", sql, re.IGNORECASE)
    if not found:
        return sql
    command, named, path = found[1].upper(), found[2], found[3] or ""
    place = stage.parts_from_var(named, session.database, session.schema)
    if not session._duck_conn.execute(stage.stage_lookup_sql(*place, session.table_stages)).fetchone():
        return f"LIST @{named}"  # which says that there is none
    root = Path(stage.internal_dir(".".join(place)))
    files = [file for file in sorted(root.rglob("*")) if file.is_file()]
    files = [file for file in files if str(file.relative_to(root)).startswith(path)]
    if command in ("LIST", "LS"):
        names = [f"'{stage.internal_file_name(str(file))}'" for file in files]
        listed = stage.list_stage_files_sql(".".join(place))
        return f"SELECT * FROM ({listed}) WHERE name IN ({', '.join(names)})" if path else sql
    rows = [f"SELECT '{stage.internal_file_name(str(file))}' AS \"name\", 'removed' AS \"result\"" for file in files]
    for file in files:
        file.unlink()
    return " UNION ALL ".join(rows) or "SELECT '' AS \"name\", '' AS \"result\" WHERE FALSE"


def translated(session: Any, node: exp.Expression) -> exp.Expression:
    """What duckdb lacks; AT(...) and BEFORE(...) give the current rows of tables that Time Travel doesn't know."""
    if isinstance(node, exp.Table) and (when := node.args.get("when")):
        node.set("when", None)
        if copies := PAST.get(full_name(session, node)):
            return past(session, node, when, copies)
    elif isinstance(node, exp.Anonymous) and node.name.upper() == "SYSTEM$LAST_CHANGE_COMMIT_TIME":
        return exp.Literal.number(last_change(session, node.expressions[0].name))
    elif isinstance(node, exp.MD5NumberLower64):
        half = exp.Substring(this=exp.MD5(this=node.this), start=exp.Literal.number(17))
        return exp.cast(exp.DPipe(this=exp.Literal.string("0x"), expression=half), "UBIGINT", dialect="duckdb")
    elif isinstance(node, exp.Explode) and node.expressions:
        raise NotImplementedError(f"FLATTEN with {node.expressions[0].sql()}")
    return node


def remember(session: Any) -> None:
    """Keeps what tables contain that Time Travel knows; called once something may be committed."""
    if not TRAVEL["tables"]:
        return
    for schema, tables in DECLARED.get(session.database, {}).items():
        for name in [name for name in tables if re.fullmatch(TRAVEL["tables"], name)]:
            copies = PAST.setdefault((session.database, schema, name), [])
            copy = f"{name}${len(copies)}"
            place, new = (exp.table_(n, schema, session.database, quoted=True).sql("duckdb") for n in (name, copy))
            with session._duck_conn.cursor() as committed, suppress(duckdb.CatalogException):  # it was dropped
                committed.execute(f"CREATE TABLE {new} AS FROM {place}")
                copies.append((time.time_ns(), copy))


def past(session: Any, table: exp.Table, when: exp.Expression, copies: list[tuple[int, str]]) -> exp.Table:
    """The copy of a table as it was at a time, which AT(TIMESTAMP => a literal) names."""
    if (when.name.upper(), when.args["kind"].upper()) != ("AT", "TIMESTAMP"):
        raise NotImplementedError(when.sql("snowflake"))
    moment = datetime.fromisoformat(when.expression.find(exp.Literal).name).timestamp() * 1e9
    found = [copy for at, copy in copies if at <= moment]
    if not found or moment < time.time_ns() - TRAVEL["retention"] * 1e9:
        said = (
            f"Time travel data is not available for table {table.name}. The requested time is either beyond the "
            "allowed time travel period or before the object creation time."
        )
        raise ProgrammingError(msg=said, errno=707, sqlstate="02000")
    database, schema, _ = full_name(session, table)
    return exp.table_(found[-1], schema, database, quoted=True, alias=table.alias or None)


def last_change(session: Any, name: str) -> int:
    """The time, in ns, at which this was first asked for what a table now contains, as far as it's committed.

    Snowflake's is that of the commit. Here two changes without a question between them are one, or none if the second
    undoes the first.
    """
    table = full_name(session, exp.to_table(name, dialect="snowflake"))
    quoted = exp.table_(*reversed(table), quoted=True).sql("duckdb")
    with session._duck_conn.cursor() as committed:
        found = committed.execute(f"SELECT COUNT(*), SUM(HASH(t)), BIT_XOR(HASH(t)) FROM {quoted} AS t").fetchone()
    if table not in CHANGES or CHANGES[table][0] != found:
        CHANGES[table] = found, time.time_ns()
    return CHANGES[table][1]


def spoken(error: Exception) -> ProgrammingError:
    """An error of duckdb's, or fakesnow's word for it, as Snowflake puts it."""
    causes = [cause for cause in (error, error.__cause__, error.__context__) if isinstance(cause, duckdb.Error)]
    for cause in causes:
        for kind, pattern, number, state, text in ERRORS:
            if isinstance(cause, kind) and (found := re.search(pattern, str(cause))):
                return ProgrammingError(msg=text.format(*found.groups()), errno=number, sqlstate=state)
    if isinstance(error, ProgrammingError):
        return error
    return ProgrammingError(msg=f"fakesnow can't: {type(error).__name__}: {error}", errno=2, sqlstate="0A000")


def mend_fakesnow() -> None:
    """Replaces what fakesnow 0.12.1 does wrong and these tests need."""
    source_urls, params = fakesnow.copy_into._source_urls, fakesnow.copy_into._params
    comment_sql = fakesnow.info_schema.insert_table_comment_sql
    cursor = fakesnow.cursor.FakeSnowflakeCursor
    execute, explode, transform = cursor.execute, cursor._transform_explode, cursor._transform

    def files_in(source: str, files: list[str]) -> list[str]:
        """FILES= of internal stages, which fakesnow refuses because they are folders, not URLs."""
        if not stage.is_internal(source):
            return source_urls(source, files)
        paths = [f"{source.rstrip('/')}/{name}" for name in files]
        for path in paths:
            if not Path(path).is_file():
                name = stage.internal_file_name(path)
                raise ProgrammingError(msg=f"Remote file '{name}' was not found.", errno=91016, sqlstate="22000")
        return paths

    def columns(table: exp.Table, duck: Any, database: str, schema: str) -> list[tuple[str, str]]:
        """A table's columns and types, whatever characters are in its name."""
        name = exp.table_(table.name, table.db or schema, table.catalog or database, quoted=True)
        return [row[:2] for row in duck.execute(f"DESCRIBE {name.sql('duckdb')}").fetchall()]

    def matched(there: list[str], wanted: list[str], how: fakesnow.copy_into.MatchByColumnName) -> dict[str, str]:
        """Columns of a table and of a file, where names in lower case match too, which fakesnow takes for others."""
        fold = str if how == fakesnow.copy_into.MatchByColumnName.CASE_SENSITIVE else str.upper
        names = {fold(name): name for name in there}
        return {name: names[fold(name)] for name in wanted if fold(name) in names}

    def told(expression: exp.Copy, *more: Any, **named: Any) -> Any:
        """FORCE = FALSE and PURGE = FALSE, which fakesnow takes for TRUE."""
        given = expression.args.get("params") or []
        kept = [p for p in given if not (p.this.name.upper() in ("FORCE", "PURGE") and says_false(p.expression))]
        expression.set("params", kept)
        return params(expression, *more, **named)

    def comment(catalog: str, schema: str, table: str, text: str) -> str:
        """No empty comment is written: that is in another database, where a transaction can't write too."""
        return comment_sql(catalog, schema, table, text) if text else "SELECT 1"

    def exploded(self: Any, expression: exp.Expression) -> list[exp.Expression]:
        if isinstance(expression, exp.Merge) and any(when.args["matched"] for when in expression.args["whens"]):
            target, source, on = (expression.args[part].copy() for part in ("this", "using", "on"))
            row = exp.column("ROWID", table=target.alias_or_name, quoted=True)
            twice = exp.select("1").from_(target).join(source, on=on).group_by(row).having("COUNT(*) > 1")
            if self._duck_conn.execute(self._transform(twice, None).sql("duckdb")).fetchone():
                message = "Duplicate row detected during DML action"
                raise ProgrammingError(msg=message, errno=100090, sqlstate="42P18")
        return explode(self, expression)

    def transformed(self: Any, expression: exp.Expression, given: Any) -> exp.Expression:
        return transform(self, expression.transform(lambda node: translated(self._conn, node)), given)

    def executed(self: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return execute(self, *arguments, **named)
        except OperationalError:
            raise
        except Exception as error:
            raise spoken(error) from error

    # settings that change nothing here, such as QUERY_TAG, are refused otherwise
    fakesnow.server.shared_fs.nop_regexes = [r"\s*ALTER\s+SESSION\s+(UN)?SET\s+(?!AUTOCOMMIT)"]
    # an integer has 38 digits, as in Snowflake, not 64 bits
    fakesnow.transforms.integer_precision = whole_numbers
    # for texts in SUM() fakesnow casts all that is summed to DOUBLE
    fakesnow.transforms.numeric_agg_implicit_cast = lambda node: node
    fakesnow.server.describe_as_rowtype = columns_of
    fakesnow.server.to_sf = as_sent
    cursor.execute, cursor._transform_explode, cursor._transform = executed, exploded, transformed
    fakesnow.copy_into._source_urls = files_in
    fakesnow.copy_into._params = told
    fakesnow.copy_into._describe_table = columns
    fakesnow.copy_into._get_table_columns = lambda *table: [name for name, _ in columns(*table)]
    fakesnow.copy_into._match_parquet_columns = matched
    stage.parts_from_var = stage_names
    fakesnow.info_schema.insert_table_comment_sql = comment


def whole_numbers(expression: exp.Expression) -> exp.Expression:
    if isinstance(expression, exp.DataType) and (
        expression.this in (Kind.INT, Kind.BIGINT, Kind.SMALLINT, Kind.TINYINT)
        or (expression.this == Kind.DECIMAL and not expression.expressions)
    ):
        return exp.DataType.build("DECIMAL(38, 0)")
    return expression


def says_false(value: exp.Expression | None) -> bool:
    return value is not None and value.sql().upper() == "FALSE"
