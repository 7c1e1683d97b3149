"""A proof of one score, made from the rows of its run as the table has them, which must be what the run has signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.engines import scratch
from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.receipts import rows
from lakehouse.operations.receipts.explaining import basis_of_row, for_one
from lakehouse.operations.receipts.places import SCORED, Place, live_place, place_of_run, stands_at, value_of
from lakehouse.operations.receipts.proofs import Proof, check
from lakehouse.operations.receipts.recomputing import made_again
from lakehouse.operations.receipts.rows import Key
from lakehouse.planning import catalog, naming
from lakehouse.planning.plan import Request
from lakehouse.runs import evidence
from lakehouse.schemas import FEATURE_DIGEST, MODEL_NAME, MODEL_VERSION, RUN_ID
from lakehouse.scoring import receipts
from lakehouse.scoring.inputs import features_in
from lakehouse.scoring.merkle import Tree
from lakehouse.scoring.receipts import Leaves, Model
from lakehouse.scoring.values import as_json
from lakehouse.storage import locate

if TYPE_CHECKING:
    from lakehouse.config import Job


def prove(
    job: Job,
    text: str,
    records: Sequence[Mapping[str, Any]],
    request: Request,
    record: Mapping[str, Any] | None = None,
    *,
    features: bool = False,
) -> Proof:
    """The proof of the row with this key, of the run whose record is given, else of the one that is live.

    `features`: with what the model was given, made again of the run's input. Raises ConfigError where there is no such
    row, its run has signed nothing, or its rows are gone; Blocked where the row is not what its run has published.
    """
    with catalog.open_job(job, "prove", request.engine, request.warn) as at_places:
        schema = rows.scored_columns(at_places)
        key = rows.key_of(at_places, text, schema)
        place = place_of_run(at_places, schema, key, record) if record else live_place(at_places, schema, key, records)
        if place.status != SCORED:
            raise ConfigError(f"{rows.in_words(key)} was set aside by run {place.run}: it has no score to prove")
        own = next((r for r in records if r["run_id"] == place.run), None)
        if own is None or not own.get("receipt"):
            raise ConfigError(
                f"run {place.run}, which scored {rows.in_words(key)}, has left no receipt"
                f"{' on record' if own is None else ''}: `receipts: {{sign: FILE}}` has later runs leave one"
            )
        proof = _proof(at_places, schema, key, place, own)
        proof = _with_features(at_places, key, place, own, proof, request) if features else proof
        if wrong := check(proof).wrong:
            raise Blocked(f"run {place.run}: what is on record as signed by it does not hold: {'; '.join(wrong)}")
        return proof


def _proof(job: Job, schema: pa.Schema, key: Key, place: Place, record: Mapping[str, Any]) -> Proof:
    receipt, models = record["receipt"], _models(job, record)
    statement = receipt["statement"]
    missing = [n for n in (*statement["keys"], *statement["predictions"], FEATURE_DIGEST) if n not in schema.names]
    if missing:
        raise Blocked(f"{place.table} has no column {missing[0]!r} any more, which run {place.run} has signed")
    wanted = _leaves(place.found.row, statement, models)
    version, _ = stands_at(job, schema, record)
    published = rows.version_of(job, record)
    looked = False
    for at in dict.fromkeys([place.version, version, published]):
        try:
            tree = _tree(job, statement, models, place.run, at, wanted)
        except ConfigError:
            if not looked:
                raise
            break  # the files of that version are gone
        if tree.root.hex() == statement["root"]:
            if tree.path is None:
                raise _other(job, schema, key, place, statement, at)
            return _made(place, receipt, models, tree)
        looked = True
    raise Blocked(
        f"{place.table}: the rows of run {place.run} are not what it has signed (their Merkle root is another one): "
        "some were changed, added or deleted since, and what it published can't be read any more, so that nothing can "
        f"be proved of {rows.in_words(key)}"
    )


def _made(place: Place, receipt: Mapping[str, Any], models: Sequence[Model], tree: Tree) -> Proof:
    statement, row = receipt["statement"], place.found.row
    model = next(m for m in models if (m.name, m.version) == (_text(place, MODEL_NAME), _text(place, MODEL_VERSION)))
    return Proof(
        statement=statement,
        model={"name": model.name, "version": model.version, "digest": model.digest},
        keys={name: as_json(row.column(name)[0]) for name in statement["keys"]},
        predictions={name: as_json(row.column(name)[0]) for name in statement["predictions"]},
        feature_digest=row.column(FEATURE_DIGEST)[0].as_py(),
        features=None,
        path=tree.path or (),
        signature=bytes.fromhex(receipt["signature"]),
        public_key=bytes.fromhex(receipt["public_key"]),
    )


def _with_features(
    job: Job, key: Key, place: Place, record: Mapping[str, Any], proof: Proof, request: Request
) -> Proof:
    """The proof with the features, which have the digest that it proves."""
    with made_again(for_one(job, place), basis_of_row(job, place, record), request) as again:
        row = rows.in_input(rows.narrowed(again.read, key), key)
        if row is None:
            raise ConfigError(
                f"{again.read.pinned.name} v{again.read.pinned.version} has no row with {rows.in_words(key)}"
            )
        made = features_in(row.row, again.scoring.features)
        if receipts.feature_digests(made)[0].as_py() != proof.feature_digest:
            raise Blocked(
                f"{rows.in_words(key)}: {again.read.pinned.name} v{again.read.pinned.version} has other features than "
                f"run {place.run} has signed; leave --with-features out"
            )
        values = {name: as_json(made.column(name)[0]) for name in made.schema.names}
        return replace(proof, features=values)


def _models(job: Job, record: Mapping[str, Any]) -> list[Model]:
    """The models of the run, by its record or, where there were many, by what it kept beside that."""
    if not record.get("model_count"):
        return [Model(record["model_name"], record["model_version"], record["model_digest"])]
    facts = evidence.facts_of(naming.state_of(job), record) or {}
    listed = facts.get("models", {}).get("listed", ())
    if not listed:
        raise ConfigError(
            f"run {record['run_id']}: which models it had is not kept any more, so that nothing is proved"
        )
    return [Model(name, version, digest) for _, name, version, digest, *_ in listed]


def _leaves(batch: pa.RecordBatch, statement: Mapping[str, Any], models: Sequence[Model]) -> bytes:
    columns = [batch.column(name) for name in (*statement["keys"], *statement["predictions"])]
    of = receipts.numbers_of(batch.column(MODEL_NAME), batch.column(MODEL_VERSION), models)
    return receipts.leaves_of(batch.column(FEATURE_DIGEST), columns, models, of)


def _tree(
    job: Job, statement: Mapping[str, Any], models: Sequence[Model], run: str, version: int | None, wanted: bytes
) -> Tree:
    """The tree of the run's rows as they are at a version of the table, None for now."""
    with scratch.folder() as folder:
        root = locate(str(folder))
        leaves = Leaves(root, "leaves")
        for batch in _batches(job, statement, run, version):
            leaves.take(_leaves(batch, statement, models))
        return receipts.tree_of(root, leaves.close(), wanted)


def _batches(job: Job, statement: Mapping[str, Any], run: str, version: int | None) -> Iterator[pa.RecordBatch]:
    names = [*statement["keys"], *statement["predictions"], FEATURE_DIGEST, MODEL_NAME, MODEL_VERSION]
    for _, batch in rows.at_version(job, names, version, {RUN_ID: run}, names):
        yield batch


def _other(
    job: Job, schema: pa.Schema, key: Key, place: Place, statement: Mapping[str, Any], version: int | None
) -> Blocked:
    """That the row isn't one of those that its run has published, with what differs."""
    then = [one.row for one in rows.scored(job, schema, key, place.run, version)]
    names = [*statement["predictions"], FEATURE_DIGEST, MODEL_NAME, MODEL_VERSION]
    said = "it had no row with this key"
    if then:
        now = place.found.row
        pairs = {n: (as_json(then[0].column(n)[0]), as_json(now.column(n)[0])) for n in names}
        other = (f"{n} was {before!r} and is {after!r}" for n, (before, after) in pairs.items() if before != after)
        said = "; ".join(other)
    return Blocked(
        f"{rows.in_words(key)} in {place.table} is not what run {place.run} has published: {said}. Somebody has "
        "changed the row since: score the slice again with --rescore, or roll it back"
    )


def _text(place: Place, column: str) -> str:
    return str(value_of(place.found, column))
