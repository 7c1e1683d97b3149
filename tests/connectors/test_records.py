"""Messages' bytes as rows: in JSON, Avro and Arrow; what can't be read says why, and nothing else is lost with it."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.connectors import avro, records
from lakehouse.connectors.records import Format, decode, schema_of
from lakehouse.errors import ConfigError, Unavailable

JSON = Format("json")
SCHEMA = schema_of({"n": "long", "x": "double", "at": "datetime", "tags": "array<string>"})
GAME = {
    "type": "record",
    "name": "Game",
    "fields": [{"name": "n", "type": "long"}, {"name": "x", "type": ["null", "double"]}],
}
NUMBERS = schema_of({"n": "long", "x": "double"})


def of(*rows: Any) -> list[bytes]:
    """Messages in JSON."""
    return [json.dumps(row).encode() for row in rows]


def numbers(decoded: records.Decoded) -> list[int | None]:
    """The column n of what was read."""
    return list(decoded.rows.column("n").to_pylist())


def test_json_becomes_columns_of_the_declared_types():
    text = {"n": 1, "x": 2, "at": "2026-01-02T03:04:05.5Z", "tags": ["a", None], "other": {"b": [1]}}
    decoded = decode(of(text, {}), SCHEMA, JSON)
    at = datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)
    assert decoded.rows.schema == SCHEMA
    assert decoded.rows.to_pylist() == [
        {"n": 1, "x": 2.0, "at": at, "tags": ["a", None]},
        dict.fromkeys(SCHEMA.names),
    ]
    assert decoded.problems == {}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"", "no JSON object"),
        (b"no", "no JSON object"),
        (b"[1]", "no JSON object"),
        (b"{", "no JSON object"),
        (b"{]}", "JSON parse error"),
        (b'{"n": 1}{"n": 2}', "holds 2 JSON objects"),
        (b'{"n": 1}\n{"n": 2}', "holds 2 JSON objects"),
        (b'{"n": "1"}', "n"),
        (b'{"n": 1.5}', "n"),
        (b'{"n": 9223372036854775808}', "n"),
        (b'{"n": NaN}', "the field 'n' has NaN, it is declared as long"),
        (b'{"n": {"n": 1}}', "n"),
        (b'\xff{"n": 1}', "no JSON object"),
        (None, "no value"),
    ],
)
@pytest.mark.parametrize("place", [0, 7, 15])
def test_a_message_that_is_no_row_is_null_and_says_why(bad, why, place):
    values: list[bytes | None] = of(*({"n": n} for n in range(16)))
    values[place] = bad
    decoded = decode(values, NUMBERS, JSON)
    assert numbers(decoded) == [None if n == place else n for n in range(16)]
    assert list(decoded.problems) == [place]
    assert why in decoded.problems[place]


MANY = schema_of({"s": "string", "n": "long", "at": "datetime", "ns": "array<long>", "yes": "boolean"})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"s": 1}, "the field 's' has a number, it is declared as string"),
        ({"s": "a", "n": "1"}, "the field 'n' has text, it is declared as long"),
        ({"n": 1.5}, "the field 'n' has 1.5, it is declared as long"),
        ({"n": 2**63}, "the field 'n' has 9223372036854775808, it is declared as long"),
        ({"at": "now"}, "the field 'at' has now, it is declared as datetime"),
        ({"n": 1, "ns": ["a"]}, "the field 'ns' has a list with text, it is declared as array<long>"),
        ({"ns": {}}, "the field 'ns' has an object, it is declared as array<long>"),
        ({"yes": 1, "s": "a"}, "the field 'yes' has a number, it is declared as boolean"),
    ],
)
def test_a_value_of_another_type_in_json_is_told_with_its_field(bad, why):
    assert decode(of({"s": "a"}, bad, {"n": 1}), MANY, JSON).problems == {1: why}


TEXTS = schema_of({"s": "string", "tags": "array<string>"})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"s": "caf\xe9"}', "the field 's' has text that is no UTF-8, it is declared as string"),
        (b'{"tags": ["caf\xe9"]}', "the field 'tags' has text that is no UTF-8, it is declared as array<string>"),
        (b'{"s": "\xed\xa0\x80"}', "the field 's' has text that is no UTF-8, it is declared as string"),
    ],
)
@pytest.mark.parametrize("place", [0, 7, 15])
def test_json_that_is_no_utf8_is_set_aside_alone(bad, why, place):
    values = of(*({"s": f"café {n}", "tags": ["é"]} for n in range(16)))
    values[place] = bad
    decoded = decode(values, TEXTS, JSON)
    assert decoded.problems == {place: why}
    assert decoded.rows.column("s").to_pylist() == [None if n == place else f"café {n}" for n in range(16)]


REALS = schema_of({"f": "float", "d": "double", "fs": "array<float>"})


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b'{"f": 1e39}', "the field 'f' has Infinity or a number that is too large, it is declared as float"),
        (b'{"f": -1e39}', "the field 'f' has Infinity or a number that is too large, it is declared as float"),
        (
            b'{"fs": [1, 1e39]}',
            "the field 'fs' has Infinity or a number that is too large, it is declared as array<float>",
        ),
        (b'{"d": -Infinity}', "the field 'd' has Infinity or a number that is too large, it is declared as double"),
        (b'{"d": 1e400}', "JSON parse error: Number too big to be stored in double."),
        (
            b'{"d": ' + b"9" * 400 + b"}",
            "the field 'd' has Infinity or a number that is too large, it is declared as double",
        ),
        (b'{"d": NaN}', "the field 'd' has NaN, which is no JSON, it is declared as double"),
    ],
)
@pytest.mark.parametrize("place", [0, 7, 15])
def test_what_no_number_in_json_can_become_is_set_aside_alone(bad, why, place):
    rows = [{"f": 3e38, "d": 1e308, "fs": [None, -3e38]}, {"f": None, "d": -0.0, "fs": None}] * 8
    values = of(*rows)
    values[place] = bad
    decoded = decode(values, REALS, JSON)
    assert decoded.problems == {place: why}
    assert decoded.rows.column("d").to_pylist() == [None if n == place else rows[n]["d"] for n in range(16)]


def test_what_is_written_otherwise_is_the_same_row():
    values = [b' {"n": 1}', b'{"n"\n:2}\n', b'{\n  "n": 3\n}', b'\t{"n": 4} ']
    assert numbers(decode(values, NUMBERS, JSON)) == [1, 2, 3, 4]


def test_parts_of_an_object_do_not_become_one():
    decoded = decode([b'{"n": 1}', b'{"x": {', b"}}", b'{"n": 2}{"n": 3}', b'{"n": 4}'], NUMBERS, JSON)
    assert (numbers(decoded), sorted(decoded.problems)) == ([1, None, None, None, 4], [1, 2, 3])


def written(row: Any, schema: Any = GAME) -> bytes:
    """A record in Avro."""
    import fastavro

    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), row)
    return stream.getvalue()


def test_avro_by_one_schema():
    values = [
        written({"n": 1, "x": 0.5}),
        written({"n": 2, "x": None}),
        b"\x02",
        None,
        written({"n": 5, "x": 1.0}) + b".",
    ]
    decoded = decode(values, NUMBERS, Format("avro", json.dumps(GAME)))
    assert decoded.rows.to_pylist()[:2] == [{"n": 1, "x": 0.5}, {"n": 2, "x": None}]
    assert (numbers(decoded)[2:], sorted(decoded.problems)) == ([None] * 3, [2, 3, 4])


SEVERAL = {
    "type": "record",
    "name": "Several",
    "fields": [
        {"name": "s", "type": "string"},
        {"name": "d", "type": "double"},
        {"name": "u", "type": ["null", "long"]},
        {"name": "e", "type": {"type": "enum", "name": "Grade", "symbols": ["A"]}},
        {"name": "last", "type": "Grade"},
    ],
}
WHOLE = written({"s": "abc", "d": 1.0, "u": None, "e": "A", "last": "A"}, SEVERAL)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"", "the field 's' of the Avro type string can't be read: the message ends before it does"),
        (b"aab", "the field 's' of the Avro type string can't be read: it has a length of -49 bytes"),
        (b"\x02\xff" + WHOLE[4:], "the field 's' of the Avro type string can't be read: it has text that is no UTF-8"),
        (WHOLE[:6], "the field 'd' of the Avro type double can't be read: the message ends before it does"),
        (WHOLE[:12] + b"\x08", "the field 'u' of the Avro type null or long can't be read: it names a branch or symbol that the schema doesn't have"),
        (WHOLE[:13] + b"\x08\0", "the field 'e' of the Avro type enum can't be read: it names a branch or symbol that the schema doesn't have"),
        (WHOLE[:-1], "the field 'last' of the Avro type enum can't be read: the message ends before it does"),
        (WHOLE + b".", "1 bytes are left after the record: it is written by another schema"),
    ],
)  # fmt: skip
def test_a_broken_record_in_avro_is_told_with_its_field_and_the_same_each_time(bad, why):
    decoded = decode([WHOLE, bad], schema_of({"s": "string"}), Format("avro", json.dumps(SEVERAL)))
    assert (decoded.problems, decoded.rows.column("s").to_pylist()) == ({1: why}, ["abc", None])


def test_avro_values_of_another_type_are_set_aside_alone():
    schema = {**GAME, "fields": [{"name": "n", "type": ["long", "string"]}]}
    values = [written({"n": n if n != 3 else "three"}, schema) for n in range(9)]
    decoded = decode(values, NUMBERS, Format("avro", json.dumps(schema)))
    assert numbers(decoded) == [None if n == 3 else n for n in range(9)]
    assert list(decoded.problems) == [3]


def a_record(kind: Any) -> dict[str, Any]:
    """The Avro schema of records with a field v of this type, and one before it by which a type has a name."""
    grade = {"name": "grade", "type": {"type": "enum", "name": "Grade", "symbols": ["A"]}, "default": "A"}
    return {"type": "record", "name": "Row", "namespace": "games", "fields": [grade, {"name": "v", "type": kind}]}


MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value", "declared", "said"),
    [
        ("double", 1.9, "long", "double"),
        ("double", 2.0, "long", "double"),
        ("double", 1e300, "float", "double"),
        ("boolean", True, "double", "boolean"),
        ("boolean", True, "long", "boolean"),
        ("long", 1, "datetime", "long"),
        ("long", 2**53 + 1, "double", "long"),
        ("long", 1, "integer", "long"),
        ("int", 1, "float", "int"),
        ("int", 1, "boolean", "int"),
        ("string", "x", "binary", "string"),
        ("bytes", b"x", "string", "bytes"),
        (MILLIS, MOMENT, "long", "timestamp-millis"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, 1, "datetime", "long"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, Decimal("1.25"), "double", "decimal"),
        ({"type": "array", "items": ["null", "double"]}, [1.0], "array<long>", "array of null or double"),
        (["null", "double", "long"], 2.0, "long", "double"),
        ("Grade", "A", "binary", "enum"),
        ({"type": "map", "values": "long"}, {"a": 1}, "long", "map"),
    ],
)
def test_avro_types_that_the_declared_one_does_not_hold_are_set_aside(kind, value, declared, said):
    schema = a_record(kind)
    value = written({"v": value}, schema)
    decoded = decode([value], schema_of({"v": declared}), Format("avro", json.dumps(schema)))
    why = f"the field 'v' has the Avro type {said}, it is declared as {declared}: no lossless cast"
    assert (decoded.rows.column("v").to_pylist(), decoded.problems) == ([None], {0: why})


@pytest.mark.parametrize(
    ("kind", "value", "declared"),
    [
        ("int", 2**31 - 1, "long"),
        ("int", 2**31 - 1, "double"),
        ("float", 0.5, "double"),
        ("double", float("inf"), "double"),
        (MILLIS, MOMENT, "datetime"),
        ({"type": "fixed", "name": "Two", "size": 2}, b"ab", "binary"),
        ({"type": "array", "items": ["null", "int"]}, [1, None], "array<double>"),
        (["null", "long", "double"], 2, "long"),
        (["null", "double"], None, "long"),
        (["null", "Grade"], "A", "string"),
    ],
)
def test_avro_types_that_the_declared_one_holds_are_read(kind, value, declared):
    schema = a_record(kind)
    decoded = decode([written({"v": value}, schema)], schema_of({"v": declared}), Format("avro", json.dumps(schema)))
    assert (decoded.rows.column("v").to_pylist(), decoded.problems) == ([value], {})


@pytest.mark.parametrize("schema", ["null", {"type": "array", "items": "long"}, ["null", a_record("double")]])
def test_avro_schemas_of_something_else_than_a_record_set_messages_aside(schema):
    value = written(None if "null" in schema else [1], schema)
    decoded = decode([value], schema_of({"v": "long"}), Format("avro", json.dumps(schema)))
    assert decoded.problems == {0: "it is no Avro record"}


def test_of_a_union_of_records_each_field_is_held_against_its_declared_type():
    schema = ["null", a_record("double")]
    value = written({"grade": "A", "v": 1.0}, schema)
    decoded = decode([value], schema_of({"v": "long"}), Format("avro", json.dumps(schema)))
    assert decoded.problems == {0: "the field 'v' has the Avro type double, it is declared as long: no lossless cast"}


@pytest.fixture
def registry() -> Iterator[tuple[str, list[str]]]:
    """The address of a schema registry that knows schema 7, for one who logs in; and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.headers["Authorization"] == "Basic YTpi"
            code = 401 if not known else 200 if self.path == "/schemas/ids/7" else 404
            body = json.dumps({"schema": json.dumps(GAME)} if code == 200 else {"error_code": 40403}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        avro._registered.cache_clear()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_avro_by_the_schemas_of_a_registry(registry, monkeypatch):
    address, asked = registry
    monkeypatch.setenv("LOGIN", "a:b")
    row = written({"n": 1, "x": 0.5})
    values = [b"\0\0\0\0\x07" + row, b"\0\0\0\0\x08" + row, b"\x01" + row, b"\0", b"\0\0\0\0\x07" + row]
    values.append(values[1])
    decoded = decode(values, NUMBERS, Format("avro", None, address, "env:LOGIN"))
    assert (numbers(decoded), sorted(decoded.problems)) == ([1, None, None, None, 1, None], [1, 2, 3, 5])
    assert "no schema 8" in decoded.problems[1]
    assert decoded.problems[5] == decoded.problems[1]
    assert sorted(asked) == ["/schemas/ids/7", "/schemas/ids/8"]


def test_each_schema_of_a_registry_is_held_against_the_declared_types(registry, monkeypatch):
    monkeypatch.setenv("LOGIN", "a:b")
    value = b"\0\0\0\0\x07" + written({"n": 1, "x": 0.5})
    decoded = decode([value], schema_of({"n": "long", "x": "float"}), Format("avro", None, registry[0], "env:LOGIN"))
    assert decoded.problems == {0: "the field 'x' has the Avro type double, it is declared as float: no lossless cast"}


def test_a_registry_that_does_not_answer_sets_no_message_aside(registry, monkeypatch):
    address, _ = registry
    monkeypatch.setenv("LOGIN", "a:wrong")
    with pytest.raises(Unavailable, match="401"):
        decode([b"\0\0\0\0\x07."], NUMBERS, Format("avro", None, address, "env:LOGIN"))
    with pytest.raises(Unavailable, match="can't be asked"):
        decode([b"\0\0\0\0\x07."], NUMBERS, Format("avro", None, "http://127.0.0.1:9"))


def test_no_avro_schema_is_refused(tmp_path):
    (tmp_path / "no.avsc").write_text('{"type": "game"}')
    with pytest.raises(ConfigError, match="no Avro schema"):
        avro.schema_in(str(tmp_path / "no.avsc"), {})
    with pytest.raises(ConfigError, match="No such file"):
        avro.schema_in(str(tmp_path / "other.avsc"), {})


@pytest.mark.parametrize(
    ("schema", "declared", "said"),
    [
        (a_record("double"), "long", "source.schema: 'v' is declared as long, own.avsc has it as double, which no lossless"),
        (["null", a_record(["null", "double"])], "long", "'v' is declared as long, own.avsc has it as double, which"),
        (a_record({"type": "array", "items": "double"}), "array<long>", "has it as array of double, which"),
        ({"type": "array", "items": "long"}, "long", "source.avro_schema: own.avsc is the schema of no record"),
        ({**a_record("long"), "fields": [{"name": "V", "type": "long"}]}, "long", "source.schema: own.avsc has no field 'v', did you mean 'V'?"),
    ],
)  # fmt: skip
def test_a_declared_type_that_no_record_of_a_schema_can_have_is_refused(tmp_path, monkeypatch, schema, declared, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.avsc").write_text(json.dumps(schema))
    with pytest.raises(ConfigError) as refused:
        records.avro_in("own.avsc", {"v": declared})
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "declared"), [(["null", "double", "long"], "long"), ("int", "double"), ("null", "long")]
)
def test_a_declared_type_that_some_records_of_a_schema_have_is_taken(tmp_path, kind, declared):
    (tmp_path / "own.avsc").write_text(json.dumps(a_record(kind)))
    assert records.avro_in(str(tmp_path / "own.avsc"), {"v": declared, "grade": "string"}) is not None


def stream(**columns: Any) -> bytes:
    """Rows as an Arrow IPC stream."""
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_arrow_messages_hold_several_rows_or_none():
    values = [
        stream(n=pa.array([1, 2], pa.int32())), stream(n=pa.array([], pa.int64())), b"no", stream(n=["a"]),
        stream(x=[0.5], n=[3], other=["b"]),
    ]  # fmt: skip
    decoded = decode(values, NUMBERS, Format("arrow"))
    assert numbers(decoded) == [1, 2, None, None, 3]
    assert decoded.rows.column("x").to_pylist() == [None, None, None, None, 0.5]
    assert decoded.of is not None
    assert (decoded.of.to_pylist(), sorted(decoded.problems)) == ([0, 0, 2, 3, 4], [2, 3])


def test_arrow_text_that_is_no_utf8_is_set_aside():
    def text(offsets: bytes) -> pa.Array:
        return pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(b"caf\xe9")])

    nothing = pa.array(["caf\u00e9"])
    values = [
        stream(s=nothing), stream(s=text(b"\0\0\0\0\4\0\0\0")), stream(S=nothing, other=text(b"\0\0\0\0\4\0\0\0")),
    ]  # fmt: skip
    decoded = decode(values, TEXTS, Format("arrow"))
    assert decoded.problems == {1: "the field 's' has text that is no UTF-8, it is declared as string"}
    assert decoded.rows.column("s").to_pylist() == ["caf\u00e9", None, "caf\u00e9"]


def test_an_arrow_message_with_a_column_twice_is_set_aside():
    sink, twice = pa.BufferOutputStream(), pa.table([[1], [2], [0.5]], ["n", "n", "x"])
    with pa.ipc.new_stream(sink, twice.schema) as writer:
        writer.write_table(twice)
    decoded = decode([stream(n=[1]), bytes(sink.getvalue())], NUMBERS, Format("arrow"))
    assert decoded.problems == {1: "the field 'n' is there 2 times, it is declared once, as long"}
    assert numbers(decoded) == [1, None]


@pytest.mark.parametrize("count", [1, 2])
def test_arrow_messages_may_hold_no_rows_at_all(count):
    decoded = decode([stream(n=pa.array([], pa.int64()))] * count, SCHEMA, Format("arrow"))
    assert decoded.rows.schema == SCHEMA
    assert (decoded.rows.num_rows, decoded.problems) == (0, {})
