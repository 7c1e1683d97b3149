"""Names in Snowflake's SQL: tables with their three parts, identifiers and texts as they are quoted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lakehouse.errors import ConfigError

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")


@dataclass(frozen=True)
class Table:
    """A table of an account: the connection's name in connections.toml, and its three names as Snowflake has them."""

    connection: str
    database: str
    schema: str
    name: str

    @property
    def parts(self) -> tuple[str, str, str]:
        return self.database, self.schema, self.name

    @property
    def sql(self) -> str:
        """The table in SQL, every part quoted."""
        return ".".join(map(quote, self.parts))

    @property
    def uri(self) -> str:
        """One text for all of it, which `parse` reads back."""
        return "snowflake://" + "/".join(re.sub(r"[%/]", _escape, p) for p in (self.connection, *self.parts))

    @property
    def display_name(self) -> str:
        """The table as people write it."""
        return ".".join(p if p == fold(p) and _PLAIN.fullmatch(p) else quote(p) for p in self.parts)

    def beside(self, suffix: str) -> Table:
        """The table, or stage, in the same schema with `suffix` appended to its name."""
        return Table(self.connection, self.database, self.schema, self.name + suffix)

    def stage_path(self, run: str | None = None) -> str:
        """Where this stage has a run's files, by default those of all, in SQL."""
        place = f"@{self.sql}" if run is None else f"@{self.sql}/run-{run}/"
        return place if all(map(_PLAIN.fullmatch, self.parts)) else text_literal(place)

    @staticmethod
    def named(connection: str, name: str) -> Table:
        """A table that is named with its database and schema. Raises ConfigError where it isn't."""
        parts = names_in(name)
        if len(parts) < 3:
            raise ConfigError(f"{name}: write database.schema.table")
        return Table(connection, *parts)

    @staticmethod
    def parse(uri: str) -> Table:
        parts = uri.removeprefix("snowflake://").split("/")
        return Table(*(re.sub("%(2F|25)", lambda m: "/" if m[1] == "2F" else "%", p) for p in parts))


def _escape(match: re.Match[str]) -> str:
    return "%2F" if match[0] == "/" else "%25"


def fold(name: str) -> str:
    """A name as Snowflake keeps it when it stands unquoted: plain ones in upper case, others as they are."""
    return name.upper() if _PLAIN.fullmatch(name) else name


def spelling_of(column: str, used: Sequence[str]) -> str:
    """A column of Snowflake as a job spells it: as the first of `used` that is the same but for case does.

    Of others, plain upper-case names are in lower case.
    """
    for name in used:
        if name.upper() == column.upper():
            return name
    return column.lower() if column == fold(column) and _PLAIN.fullmatch(column) else column


def stored_name(spellings: Sequence[str], there: Collection[str]) -> str | None:
    """The first of a name's spellings that is there, else the only name that is the same but for case, None else."""
    alike = [name for name in there if name.upper() == spellings[0].upper()]
    return next((name for name in spellings if name in there), alike[0] if len(alike) == 1 else None)


def quote(name: str) -> str:
    """An identifier in SQL, exactly as given."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(value: str) -> str:
    """A string literal in SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def equality_condition(values: Mapping[str, str]) -> str:
    """The SQL condition that columns, by their stored names, have these values; empty where there are none."""
    return " AND ".join(f"{quote(column)} = {text_literal(value)}" for column, value in values.items())


def names_in(table: str) -> list[str]:
    """The parts of `table`, `schema.table` or `database.schema.table` as Snowflake keeps them; "…" quotes a part.

    Raises ConfigError for anything else.
    """
    parts = re.findall(r'(?:^|\.)(?:"((?:[^"]|"")+)"|([^".]+))(?=\.|$)', table)
    names = [quoted_part.replace('""', '"') or fold(plain) for quoted_part, plain in parts]
    if not 1 <= len(names) <= 3 or sum(len(a or b) + 2 * bool(a) for a, b in parts) + len(names) - 1 != len(table):
        raise ConfigError(
            f"{table!r} is no name of a table: write table, schema.table or database.schema.table, "
            'parts with other characters as "part"'
        )
    return names
