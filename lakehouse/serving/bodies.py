"""A request's rows as an Arrow batch of the columns that a job needs: from JSON, Arrow's stream or CSV.

Whatever a body has in it, what is wrong with it is the client's to mend: it is refused in words, with status 400.
"""

from __future__ import annotations

import csv
import io
import re

import pyarrow as pa
import pyarrow.csv as arrow_csv

from lakehouse.errors import ConfigError
from lakehouse.schemas import conform, finder
from lakehouse.serving.columns import Reader, require_columns, require_few
from lakehouse.serving.json_rows import read_json
from lakehouse.serving.messages import ARROW, CSV, JSON, SHOWN, UNFIT, Refusal, in_words
from lakehouse.serving.streams import read_stream

TYPES = (JSON, ARROW, CSV)
_NO_VALUE = re.compile(
    r"In CSV column #(?P<column>\d+): Row #(?P<row>\d+): CSV conversion error to (?P<kind>.*): "
    r"(?:invalid UTF8 data|invalid value '(?P<value>.*)')",
    re.DOTALL,
)
"""What Arrow says of a value: the column counted from 0, the row from 1 with the first line."""
_OTHER_COMMAS = re.compile(r"[;|\t]")


def read(body: bytes, kind: str, reader: Reader) -> pa.RecordBatch:
    """The rows of a body of this media type. Raises Refusal: 400, 413 for too many rows, 415 for another type."""
    media = kind.partition(";")[0].strip().lower() or JSON
    reading = {JSON: read_json, ARROW: _arrow, CSV: _csv}.get(media)
    if reading is None:
        raise Refusal(415, f"Content-Type {media[:SHOWN]!r} is not read here: send {', '.join(TYPES)}")
    batch = reading(body, reader)
    if not batch.num_rows:
        raise Refusal(400, "the body has no rows: send at least one")
    return batch


def _arrow(body: bytes, reader: Reader) -> pa.RecordBatch:
    table = read_stream(body, reader.most)
    require_columns(set(table.schema.names), reader, case=True)
    return _conformed(table, reader)


def _csv(body: bytes, reader: Reader) -> pa.RecordBatch:
    head = body[: body.find(b"\n") + 1 or len(body)].decode("utf-8-sig", errors="replace")
    try:
        names = next(csv.reader([head.strip("\r\n")]), [])
    except csv.Error as error:
        raise Refusal(400, f"the CSV can't be read: its first line: {error}") from error
    if len(names) > 10 * len(reader.schema) + 1_000:
        raise Refusal(400, f"the first line has {len(names):,} columns; the job reads {len(reader.schema)}")
    if len(set(names)) < len(names):
        raise Refusal(400, "the first line names a column twice")
    if len(names) == 1 and names[0] not in reader.schema.names and (found := _OTHER_COMMAS.search(names[0])):
        raise Refusal(400, f"the first line is one column with {found[0]!r} in its name: separate columns by commas")
    require_columns(set(names), reader, case=True)
    find = finder(names, case_insensitive=True)
    stored = {name: field for field in reader.schema if (name := find(field.name)) is not None}
    types = {name: _csv_type(field.type) for name, field in stored.items()}
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body),
            read_options=arrow_csv.ReadOptions(use_threads=False),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip
    except (*UNFIT, KeyError) as error:
        raise Refusal(400, _said_of_csv(str(error), names)) from error
    require_few(table.num_rows, reader)
    return _conformed(table, reader)


def _said_of_csv(error: str, names: list[str]) -> str:
    """What Arrow says of a CSV, row and column told as of JSON: rows from 0, without the first line."""
    if found := _NO_VALUE.fullmatch(error):
        row, column = int(found["row"]) - 2, names[int(found["column"])]
        value = "text that is no UTF-8" if found["value"] is None else in_words(found["value"])
        return f"row {row}, column {column!r}: {value} is no {found['kind']}"
    said = re.sub(r"^CSV parse error: Row #(\d+): ", lambda row: f"row {int(row[1]) - 2}: ", error)
    return f"the CSV can't be read: {said[: SHOWN * 3]}"


def _csv_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_nested(kind):
        raise Refusal(415, f"a column of this job is {kind}, which CSV has no form for: send JSON or Arrow")
    return kind


def _conformed(table: pa.Table, reader: Reader) -> pa.RecordBatch:
    names = table.schema.names
    try:
        table = table.combine_chunks()
        arrays = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in table.columns]
        return conform(pa.RecordBatch.from_arrays(arrays, names=names), reader.schema)
    except ConfigError as error:
        said = str(error).replace("is stored as", "comes as").replace("the table declares", "the job needs")
        raise Refusal(400, said) from error
    except UNFIT as error:
        raise Refusal(400, f"the rows can't be read: {str(error)[:SHOWN]}") from error
