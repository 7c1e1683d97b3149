"""The demo's tables: players and the games they own, or a person's own CSV file in the same two-table form.

Only `write_games` and `csv_to_tables` write; the rest are pure functions of their arguments, seed included.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from deltalake import WriterProperties, write_deltalake
from numpy.typing import NDArray

from lakehouse.errors import ConfigError, nearest

KEY, COUNTRY, EVENT_DATE, LABEL = "player_id", "country", "event_date", "purchase"
FLAGS = tuple(f"G{i}" for i in range(1, 11))
DATES = (dt.date(2025, 12, 31), dt.date(2026, 1, 1), dt.date(2026, 1, 2))
TRAINING_DATE = dt.date(2025, 12, 1)

COUNTRIES = ("DE", "FR", "GB", "JP", "PL", "US")
COUNTRY_SHARES = (0.14, 0.11, 0.13, 0.17, 0.08, 0.37)
NULL_SHARES = {COUNTRY: 0.004, "G3": 0.01, "G7": 0.02, "G10": 0.005}  # what the shop's export loses
BROKEN, BROKEN_EVERY = "G4", 2_500  # the shop's export of the newest date counts copies of this game, now and then
LATE_SHARE = 0.03  # players whose events of the newest date have not arrived yet
FILE_BYTES = 600_000  # by the writer's estimate; about 50,000 players, so that two cores share a date
FEW_VALUES = 20  # a label with more distinct values than this is a quantity, not a class


def _field(name: str, kind: pa.DataType, comment: str, nullable: bool = True) -> pa.Field[Any]:
    return pa.field(name, kind, nullable, metadata={"comment": comment})


FEATURES_SCHEMA = pa.schema(
    [
        _field(KEY, pa.int64(), "the player; unique in a date", nullable=False),
        _field(COUNTRY, pa.string(), "ISO 3166 code of the account's country; null where never given"),
        _field(EVENT_DATE, pa.date32(), "the date whose end this row describes (UTC)", nullable=False),
        *(_field(f, pa.float64(), f"1 if the player owns game {f[1:]}, else 0; null if unknown") for f in FLAGS),
    ]
)
TRAINING_SCHEMA = FEATURES_SCHEMA.append(
    _field(LABEL, pa.int64(), "1 if the player bought the new game within 30 days, else 0", nullable=False)
)


@dataclass(frozen=True)
class CsvTables:
    """The two tables made of a CSV file. `classes` are the label's values, or None where it is a quantity."""

    features_uri: str
    training_uri: str
    key: str
    features: list[str]
    label: str
    classes: list[str | int | float | bool] | None


def make_games(dates: Iterable[dt.date], rows_per_date: int, seed: int) -> Iterator[pa.Table]:
    """Yield one table of `FEATURES_SCHEMA` a date, `rows_per_date` long; the newest lacks 3 percent.

    A player's taste, and so what they own, lasts from date to date. The same seed gives the same tables;
    which date is late, and has rows that no model should see, is the only thing that depends on the other dates.
    """
    dates = sorted(dates)
    for date in dates:
        table, _ = _players(date, rows_per_date, seed)
        if len(dates) > 1 and date == dates[-1]:
            rng = np.random.default_rng([seed, date.toordinal(), 1])
            arrived = rng.permutation(rows_per_date)[: rows_per_date - int(rows_per_date * LATE_SHARE)]
            table = _spoil(table.take(np.sort(arrived)))
        yield table


def _spoil(table: pa.Table) -> pa.Table:
    """One player in 2,500 owns seven copies of a game, which is neither 0 nor 1."""
    bad = (table[KEY].to_numpy() % BROKEN_EVERY) == 0
    at = table.schema.get_field_index(BROKEN)
    return table.set_column(at, table.schema.field(at), pc.if_else(pa.array(bad), 7.0, table[BROKEN]))


def make_games_training(rows: int, seed: int) -> pa.Table:
    """Return `rows` players of an earlier date with what they did next: a table of `TRAINING_SCHEMA`."""
    table, bought = _players(TRAINING_DATE, rows, seed)
    return table.append_column(TRAINING_SCHEMA.field(LABEL), pa.array(bought.astype(np.int64)))


def write_games(root: Path | str, rows_per_date: int = 100_000, training_rows: int = 50_000, seed: int = 2026) -> None:
    """Write `features/games` (three dates) and `training/games` under `root`, one Delta commit each.

    A table that is already there is replaced, so its version counts up.
    """
    batches = (batch for table in make_games(DATES, rows_per_date, seed) for batch in table.to_batches())
    _write(Path(root, "features", "games"), FEATURES_SCHEMA, batches, "Games owned by each player, by date")
    training = make_games_training(training_rows, seed)
    _write(Path(root, "training", "games"), TRAINING_SCHEMA, training.to_batches(), "Players and their purchase")


def csv_to_tables(csv: Path | str, label: str, root: Path | str, event_date: dt.date) -> CsvTables:
    """Write a CSV file as `features/<name>` (all rows, no label) and `training/<name>` (rows with a label).

    Numbers and booleans become doubles, the type in which a value may also be missing; characters that Delta
    forbids in a column name become `_`; columns without any value are left out. Where no column is a key,
    `row_id` counts the lines from 1. Raises ConfigError if the label column is not there or empty, or if no
    feature is left.
    """
    table, names = _read_csv(Path(csv))
    if label not in names:
        raise ConfigError(f"{csv} has no column {label!r} to use as the label; {nearest(label, names)}")
    target = names[label]
    labels = table[target]
    table = table.drop_columns([target])
    if labels.null_count == len(labels):
        raise ConfigError(f"{csv}: the label column {label!r} has no value in any of its {len(labels)} rows")

    key = next((name for name in table.column_names if _is_key(name, table[name])), None)
    if key is None:
        key = "row_id"
        table = table.add_column(0, key, pa.array(range(1, len(table) + 1), pa.int64()))
    columns = {name: table[name] if name == key else _as_feature(table[name]) for name in table.column_names}
    features = [n for n, c in columns.items() if n != key and (_is_double(c.type) or pa.types.is_string(c.type))]
    if not features:
        raise ConfigError(f"{csv} has no column besides {label!r} and the key that a model could use")
    dates = pa.repeat(pa.scalar(event_date, pa.date32()), len(table))
    table = pa.Table.from_arrays([*columns.values(), dates], names=[*columns, EVENT_DATE])

    name = re.sub(r"\W+", "_", Path(csv).stem).strip("_").lower() or "table"
    features_path, training_path = Path(root, "features", name), Path(root, "training", name)
    _write(features_path, table.schema, table.to_batches(), f"Rows of {Path(csv).name}")
    training = table.append_column(target, labels).filter(pc.is_valid(labels))
    _write(training_path, training.schema, training.to_batches(), f"Rows of {Path(csv).name} with their label")
    return CsvTables(str(features_path), str(training_path), key, features, target, label_classes(labels))


def label_classes(labels: pa.ChunkedArray[Any]) -> list[str | int | float | bool] | None:
    """Return the sorted values of a label that says a class, or None for one that is a quantity.

    Raises ConfigError for text with too many values: neither can be learnt from it.
    """
    values: list[Any] = sorted(v for v in labels.drop_null().unique().to_pylist() if v is not None)
    numeric = pa.types.is_floating(labels.type) or pa.types.is_integer(labels.type)
    few = len(values) <= FEW_VALUES
    if numeric and not (few and all(float(v).is_integer() for v in values)):
        return None
    if not numeric and not few:
        raise ConfigError(
            f"the label has {len(values)} different values of type {labels.type} (such as {values[0]!r}); "
            f"give a number, or at most {FEW_VALUES} classes"
        )
    return values


def _players(date: dt.date, n: int, seed: int) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Draw n players as they were on a date, and whether each then bought the new game."""
    lasting, daily = np.random.default_rng([seed, 0]), np.random.default_rng([seed, date.toordinal()])
    popularity = lasting.normal(-1.6, 0.7, 10)
    strategy, action = lasting.normal(0, 0.9, 10), lasting.normal(0.4, 0.6, 10)
    country = lasting.choice(len(COUNTRIES), n, p=COUNTRY_SHARES)
    taste, pace = lasting.normal(size=(2, n))
    chance = _sigmoid(popularity + np.outer(taste, strategy) + np.outer(pace, action))
    owned = lasting.random((n, 10)) < chance
    owned |= daily.random((n, 10)) < 0.01  # bought since
    bought = daily.random(n) < _sigmoid(-2.6 + 1.3 * taste + 0.5 * pace + owned @ (0.5 * strategy))

    def nullable(name: str, values: NDArray[np.generic]) -> pa.Array[Any]:
        array: pa.Array[Any] = pa.array(values, mask=daily.random(n) < NULL_SHARES.get(name, 0.0))
        return array

    names = nullable(COUNTRY, np.array(COUNTRIES, dtype=object)[country])
    columns = [
        pa.array(np.arange(1, n + 1, dtype=np.int64)),
        names,
        pa.repeat(pa.scalar(date, pa.date32()), n),
        *(nullable(flag, owned[:, i].astype(np.float64)) for i, flag in enumerate(FLAGS)),
    ]
    return pa.Table.from_arrays(columns, schema=FEATURES_SCHEMA), bought


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-x))


def _read_csv(csv: Path) -> tuple[pa.Table, dict[str, str]]:
    """Read a CSV file without its empty columns; also map each header to its name in the tables."""
    if not csv.is_file():
        raise ConfigError(f"no CSV file at {csv}")
    try:
        table = pacsv.read_csv(csv, convert_options=pacsv.ConvertOptions(strings_can_be_null=True))
        table.column_names  # noqa: B018  # raises where the header is not UTF-8
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise ConfigError(f"{csv} is not a CSV file with a header line: {error}") from error
    if not len(table):
        raise ConfigError(f"{csv} has no row below its header")
    names: dict[str, str] = {}
    taken = {EVENT_DATE, "row_id"} - ({"row_id"} & set(table.column_names))
    for header in table.column_names:
        stem = name = re.sub(r"[ ,;{}()\n\t=]+", "_", header.strip()) or "column"
        number = 1
        while name.lower() in taken:  # Spark takes `ID` and `id` for one name
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        names[header] = name
    table = table.rename_columns(list(names.values()))
    return table.select([f.name for f in table.schema if not pa.types.is_null(f.type)]), names


def _is_key(name: str, column: pa.ChunkedArray[Any]) -> bool:
    """Say whether a column is named like a key and is one: integers or text, none twice, none missing."""
    named = re.fullmatch(r"(?i)id|key|uuid|.*[_\- ](id|key|uuid)|.*[a-z]I[dD]", name) is not None
    typed = pa.types.is_integer(column.type) or pa.types.is_string(column.type)
    return named and typed and column.null_count == 0 and pc.count_distinct(column).as_py() == len(column)


def _as_feature(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Give a column the type it has in the features table: double, string, or a date or time as it is."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.float64())
    if pa.types.is_integer(kind):
        return column.cast(pa.float64(), safe=False)
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz or "UTC"))
    return column.cast(pa.string()) if pa.types.is_time(kind) else column


def _is_double(kind: pa.DataType) -> bool:
    return bool(kind == pa.float64())


def _write(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], description: str) -> None:
    write_deltalake(
        path,
        pa.RecordBatchReader.from_batches(schema, batches),
        mode="overwrite",
        schema_mode="overwrite",
        partition_by=[EVENT_DATE],
        description=description,
        target_file_size=FILE_BYTES,
        writer_properties=WriterProperties(compression="ZSTD"),
    )
