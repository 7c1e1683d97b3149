"""Published scores made again through a server, and held against the table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request as Call
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import ConfigError, Unavailable
from lakehouse.operations.receipts import verifying
from lakehouse.operations.receipts.holding import Verified
from lakehouse.operations.receipts.recomputing import Again
from lakehouse.operations.receipts.verifying import Score
from lakehouse.planning.plan import Request
from lakehouse.schemas import MODEL_NAME, MODEL_VERSION, REASONS
from lakehouse.serving.messages import ARROW

if TYPE_CHECKING:
    from lakehouse.config import Job

_ROWS, _SECONDS, _TRIES, _MOST_WAIT = 1_000, 60, 5, 10.0


def parity(
    job: Job, record: Mapping[str, Any], records: Sequence[Mapping[str, Any]], request: Request, url: str, key: str,
    sample: int | None, seed: int,
) -> Verified:  # fmt: skip
    """Score rows of a run's input through the server at `url`, and compare with what the run has published.

    `key`: the API key, empty for none; `sample`, `seed`: as of `verify`, whose errors are raised, too. Raises
    ConfigError where the server has another model version than the run, or refuses the rows, Unavailable where it does
    not answer.
    """
    if not url.startswith(("http://", "https://")) or "/v1/" in f"{url}/":
        raise ConfigError(
            f"--url: {url!r} is no address of a server: http://127.0.0.1:8000 is one, without the path of a job"
        )
    address = f"{url.rstrip('/')}/v1/{quote(job.job, safe='')}/score"
    headers = {"Content-Type": ARROW, "Accept": ARROW, **({"Authorization": f"Bearer {key}"} if key else {})}

    def through(again: Again) -> Score:
        return partial(_score, address, headers, again, record)

    return verifying.verify(job, record, records, request, sample, seed, through)


def _score(
    address: str, headers: Mapping[str, str], again: Again, record: Mapping[str, Any], batch: pa.RecordBatch
) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    parts = [_ask(address, headers, batch.slice(at, _ROWS)) for at in range(0, batch.num_rows, _ROWS)]
    answer = pa.concat_tables(parts).combine_chunks()
    _require_same_model(answer, again, record)
    aside = pc.is_valid(answer.column(REASONS))
    keys = list(again.scoring.keys)
    names = [*keys, *again.scoring.keep, *(output.name for output in again.scoring.outputs)]
    scored, set_aside = answer.filter(pc.invert(aside)).select(names), answer.filter(aside).select(keys)
    return _batch(scored), _batch(set_aside) if set_aside.num_rows else None


def _batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _require_same_model(answer: pa.Table, again: Again, record: Mapping[str, Any]) -> None:
    if again.scoring.route is not None:
        return  # each row names its own, which differs as the score does
    served = (answer.column(MODEL_NAME)[0].as_py(), answer.column(MODEL_VERSION)[0].as_py())
    if served != (record["model_name"], record["model_version"]):
        raise ConfigError(
            f"the server has {served[0]} v{served[1]}, run {record['run_id']} used {record['model_name']} "
            f"v{record['model_version']}: score with the version that is served, or name another run by --run"
        )


def _ask(address: str, headers: Mapping[str, str], batch: pa.RecordBatch) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    body = sink.getvalue().to_pybytes()
    for turn in range(1, _TRIES + 1):
        status, answer, wait = _post(address, headers, body)
        if status in (200, 422):
            with pa.ipc.open_stream(answer) as stream:
                return stream.read_all()
        if status == 413 and batch.num_rows > 1:
            half = batch.num_rows // 2
            return pa.concat_tables([_ask(address, headers, b) for b in (batch.slice(0, half), batch.slice(half))])
        if status not in (429, 502, 503, 504) or turn == _TRIES:
            break
        time.sleep(min(wait, _MOST_WAIT))
    said = f"{address} answers {status}: {answer[:300].decode(errors='replace')}"
    raise Unavailable(said) if status >= 429 else ConfigError(said)


def _post(address: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes, float]:
    """Status, body, and the seconds after which to try again."""
    try:
        with urlopen(Call(address, body, dict(headers), method="POST"), timeout=_SECONDS) as reply:
            return reply.status, reply.read(), 0.0
    except HTTPError as error:
        with error:
            wait = error.headers.get("Retry-After") or ""
            return error.code, error.read(), float(wait) if wait.isdigit() else 1.0
    except (URLError, OSError, ValueError) as error:
        raise Unavailable(f"{address} does not answer: {getattr(error, 'reason', None) or error}") from error
