"""`lakehouse prove` and `lakehouse check-proof`: one score, proved without the lake; whatever was changed is caught."""

from __future__ import annotations

import hashlib
import json
import subprocess
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from lakehouse import formats
from lakehouse.config import load_job
from lakehouse.engines import local
from lakehouse.errors import Blocked, ConfigError, LakehouseError
from lakehouse.operations import maintenance, reconciling
from lakehouse.operations.receipts import proofs
from lakehouse.operations.receipts.proofs import Proof
from lakehouse.runs.sealing import digest_of_names, message_of
from lakehouse.scoring import merkle
from lakehouse.scoring.values import encode_values
from tests.command import run
from tests.conftest import opened, read, score, write
from tests.operations.conftest import registered

ROWS = 200


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 2, 3)


def make_key(name):
    private = f"{name}.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", f"{name}-public.pem"], check=True)


@pytest.fixture
def signed(make_job, models):
    """A job of 200 rows that leaves receipts; sections change it."""
    make_key("key")

    def make(uri=models[0], **sections):
        return make_job(uri, predictions={"p": 0}, receipts={"sign": "key.pem"}, **sections)

    write("lake/features", pa.table({"id": np.arange(ROWS), "a": np.arange(ROWS) / 7}))
    return make


def prove(capfd, *arguments):
    return run(capfd, "prove", "conf/scores.yaml", *arguments)


def check(capfd, *arguments):
    return run(capfd, "check-proof", "proof.json", *arguments)


def commits(table):
    """What the commits of a table say of themselves, the newest first."""
    return [json.loads(c["userMetadata"]) for c in opened(table).history() if "userMetadata" in c]


def test_a_score_is_proved_without_the_lake(capfd, signed, tmp_path):
    done = score(signed())
    made = prove(capfd, "--key", "7")
    assert made.code == 0, made
    Path("lake").rename(tmp_path / "gone")
    found = check(capfd, "--public-key", "key-public.pem", "--json")
    assert found.code == 0, found
    assert (found.json["keys"], found.json["predictions"]) == ({"id": 7}, {"p": pytest.approx(2.0)})
    assert (found.json["statement"]["run_id"], found.json["statement"]["rows"]) == (done.run_id, ROWS)
    assert found.json["model"]["digest"] == done.model["digest"]
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "key-public.pem", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    assert found.json["signer"] == f"sha256:{hashlib.sha256(der[-32:]).hexdigest()}"


def test_a_signature_that_only_the_file_vouches_for_is_said_to_prove_nothing_of_who_signed(capfd, signed):
    score(signed())
    prove(capfd, "--key", "7")
    found = check(capfd)
    assert (found.code, "proves nothing of who signed it" in found.out) == (0, True)
    make_key("other")
    other = check(capfd, "--public-key", "other-public.pem")
    assert (other.code, "another one than the key that you trust" in other.out) == (3, True)


def test_the_root_is_in_the_commit_and_in_the_record_and_the_key_nowhere(capfd, signed):
    score(signed())
    [said] = [commit["receipt"] for commit in commits("lake/scores") if "receipt" in commit]
    [record] = json.loads(run(capfd, "runs", "conf/scores.yaml", "--json").out)
    assert record["receipt"] == said
    secret = Path("key.pem").read_bytes().split(b"\n")[1]
    assert [p for p in Path().rglob("*") if p.is_file() and secret in p.read_bytes()] == [Path("key.pem")]
    assert list(Path().rglob("*.hashes")) == []


def test_a_row_edited_by_hand_is_not_proved(capfd, signed):
    score(signed())
    opened("lake/scores").update(predicate="id = 7", updates={"p": "0.5"})
    found = prove(capfd, "--key", "7")
    assert found.code == 3, found
    assert "p was 2.0 and is 0.5" in found.err
    assert not Path("proof.json").exists()


def test_a_row_is_proved_of_what_was_published_where_others_were_changed(capfd, signed):
    score(signed())
    opened("lake/scores").update(predicate="id = 8", updates={"p": "0.5"})
    assert prove(capfd, "--key", "7").code == 0
    assert check(capfd).code == 0
    opened("lake/scores").vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    found = prove(capfd, "--key", "7")
    assert (found.code, "are not what it has signed" in found.err) == (3, True)


def test_a_table_whose_files_were_merged_is_as_good(capfd, signed):
    score(signed(model={"batch_rows": 50}))
    write("lake/features", pa.table({"id": [999], "a": [1.0]}))
    opened("lake/scores").optimize.compact()
    opened("lake/scores").vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert prove(capfd, "--key", "199").code == 0
    assert check(capfd).code == 0


def load(day):
    return load_job("conf/scores.yaml", date=day, environ={})


def test_what_maintain_has_merged_and_a_rollback_put_back_is_proved_and_a_row_changed_then_is_not(
    capfd, signed, monkeypatch
):
    monkeypatch.setattr(local, "cores", lambda: 1)
    monkeypatch.setattr("lakehouse.scoring.files.TARGET_BYTES", 1)
    job = signed(model={"batch_rows": 50})
    first = score(job)
    opened("lake/scores").alter.set_table_properties({"delta.deletedFileRetentionDuration": "interval 0 days"})
    told = maintenance.maintain("conf/scores.yaml", load, maintenance.Asked("local", bytes=1 << 20))
    assert [(one.what, one.files) for one in told.found] == [("small files", 4), ("outdated files", 4)]
    assert prove(capfd, "--key", "7").code == 0
    assert check(capfd, "--json").json["statement"]["run_id"] == first.run_id

    second = score(job, rescore=True)
    prove(capfd, "--key", "7")
    said = check(capfd, "--json").json["statement"]
    [record] = [one for one in json.loads(run(capfd, "runs", "conf/scores.yaml", "--json").out)
                if one["run_id"] == second.run_id]  # fmt: skip
    assert {name: said[name] for name in ("job", "generation", "input_version", "fingerprint", "rows")} == {
        "job": "scores", "generation": 2, "input_version": 0, "fingerprint": record["fingerprint"], "rows": ROWS,
    }  # fmt: skip
    assert (said["slice"], said["tables"], said["input"]) == ({}, ["lake/scores"], "lake/features")

    back = run(capfd, "rollback", "conf/scores.yaml", "--json").json["run_id"]
    for arguments in ([], ["--run", back], ["--run", first.run_id]):
        assert prove(capfd, "--key", "7", *arguments).code == 0
        assert check(capfd, "--json").json["statement"]["run_id"] == first.run_id
    opened("lake/scores").update(predicate="id = 7", updates={"p": "0.5"})
    found = prove(capfd, "--key", "7")
    assert (found.code, "p was 2.0 and is 0.5" in found.err) == (3, True)


def test_a_record_that_was_made_again_has_its_receipt(capfd, signed):
    score(signed())
    Path("lake/scores_state/runs").rename("gone")
    reconciling.reconcile(load, dry_run=False)
    assert prove(capfd, "--key", "7").code == 0
    assert check(capfd, "--public-key", "key-public.pem").code == 0


def test_rows_that_are_set_aside_are_in_no_tree_and_have_nothing_to_prove(capfd, signed):
    a = pa.array(np.arange(ROWS) / 7, mask=np.arange(ROWS) == 3)
    write("lake/features", pa.table({"id": np.arange(ROWS), "a": a}), mode="overwrite")
    score(signed(checks={"quarantine": {"max_fraction": 0.5}}))
    assert prove(capfd, "--key", "7", "--with-features").code == 0
    found = check(capfd, "--json")
    assert (found.code, found.json["features"], found.json["statement"]["rows"]) == (0, {"a": 1.0}, ROWS - 1)
    aside = prove(capfd, "--key", "3")
    assert (aside.code, "id=3 was set aside by run" in aside.err) == (2, True)


def test_a_run_that_is_blocked_signs_nothing(signed):
    write("lake/features", pa.table({"id": pa.array([None], pa.int64()), "a": [0.5]}))
    with pytest.raises(Blocked):
        score(signed(checks={"quarantine": {"max_rows": 0}}))
    [record] = read("lake/scores_state/runs").to_pylist()
    assert (record["status"], record["receipt"]) == ("blocked", None)
    assert list(Path().rglob("*.hashes")) == []


def test_a_receipt_that_was_changed_on_record_proves_nothing(capfd, signed):
    score(signed())
    receipt = json.loads(read("lake/scores_state/runs")["receipt"][0].as_py())
    receipt["statement"]["rows"] += 1
    opened("lake/scores_state/runs").update(new_values={"receipt": json.dumps(receipt)})
    found = prove(capfd, "--key", "7")
    assert (found.code, "does not hold: statement: signature is not that of public_key" in found.err) == (3, True)
    assert not Path("proof.json").exists()


def test_a_table_that_lost_what_was_signed_is_named(capfd, signed):
    score(signed())
    rows = read("lake/scores").drop_columns(["_feature_digest"])
    write("lake/scores", rows, mode="overwrite", schema_mode="overwrite")
    found = prove(capfd, "--key", "7")
    assert (found.code, "has no column '_feature_digest' any more, which run" in found.err) == (3, True)


@pytest.mark.long
def test_features_that_are_others_by_now_are_left_out_of_a_proof(capfd, signed):
    import pyarrow.parquet as pq

    Path("lake/days").mkdir()
    pq.write_table(pa.table({"id": [7], "a": [1.0]}), "lake/days/a.parquet")
    score(signed(source={"type": "parquet", "table": "lake/days"}))
    pq.write_table(pa.table({"id": [7], "a": [2.0]}), "lake/days/a.parquet")
    found = prove(capfd, "--key", "7", "--with-features")
    assert (found.code, "has signed; leave --with-features out" in found.err) == (3, True)
    assert prove(capfd, "--key", "7").code == 0


def test_rows_of_an_earlier_merge_are_proved(capfd, signed):
    job = signed(sinks=[{"type": "delta", "table": "lake/scores", "write": "merge"}])
    first = score(job)
    write("lake/features", pa.table({"id": np.arange(5), "a": np.arange(5) / 3}), mode="overwrite")
    second = score(job)
    runs = []
    for key in ("3", "7"):
        assert prove(capfd, "--key", key).code == 0
        runs.append(check(capfd, "--json").json["statement"]["run_id"])
    assert runs == [second.run_id, first.run_id]


def test_features_are_in_the_file_where_they_are_asked_for(capfd, signed):
    score(signed(explanations={}))
    assert prove(capfd, "--key", "7", "--with-features").code == 0
    assert check(capfd, "--json").json["features"] == {"a": 1.0}
    assert {"_explanations", "_feature_digest"} <= set(read("lake/scores").column_names)


def test_each_of_many_models_is_proved_and_another_version_written_by_hand_is_not(capfd, make_job, register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    for name, times in (("of_x", 2), ("of_y", 3)):
        register(LinearRegression().fit(x, x["a"] * times), x, name=name)
    make_key("key")
    write("lake/features", pa.table({"id": [1, 2], "kind": ["x", "y"], "a": [1.0, 1.0]}))
    score(make_job("models:/of_{kind}@champion", model={"by": "kind"}, predictions={"p": 0},
                   receipts={"sign": "key.pem"}))  # fmt: skip
    for key, name in (("1", "of_x"), ("2", "of_y")):
        assert prove(capfd, "--key", key).code == 0
        assert check(capfd, "--json").json["model"]["name"] == name
    opened("lake/scores").update(predicate="id = 2", updates={"_model_name": "'of_x'"})
    found = prove(capfd, "--key", "2")
    assert (found.code, "_model_name was 'of_y' and is 'of_x'" in found.err) == (3, True)


@pytest.mark.parametrize(("how", "said"), [
    ("", "openssl genpkey -algorithm ed25519 -out key.pem"),
    ("rsa", "is not of Ed25519"),
    ("locked", "locked by a passphrase"),
    ("text", "no private key in PEM"),
])  # fmt: skip
def test_a_key_that_signs_nothing_is_refused_before_anything_is_read(make_job, workspace, how, said):
    commands = {"rsa": ["-algorithm", "rsa"], "locked": ["-algorithm", "ed25519", "-aes256", "-pass", "pass:secret"]}
    if how in commands:
        subprocess.run(["openssl", "genpkey", *commands[how], "-out", "key.pem"], check=True, capture_output=True)
    elif how:
        Path("key.pem").write_text("hello")
    with pytest.raises(ConfigError, match=said):
        score(make_job("models:/none@champion", receipts={"sign": "key.pem"}))


@pytest.mark.parametrize(("how", "said"), [
    ("", "--public-key: theirs.pem can't be read"),
    ("ed25519", "--public-key: theirs.pem is no public key in PEM"),
    ("rsa", "--public-key: theirs.pem is no public key of Ed25519"),
])  # fmt: skip
def test_a_public_key_that_is_none_is_named(capfd, workspace, how, said):
    Path("proof.json").write_bytes(PROOF)
    if how:
        private = "key.pem" if how == "rsa" else "theirs.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", how, "-out", private], check=True, capture_output=True)
    if how == "rsa":
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", "theirs.pem"], check=True)
    found = check(capfd, "--public-key", "theirs.pem")
    assert (found.code, said in found.err) == (2, True), found


def test_a_key_in_the_job_file_is_refused_and_not_repeated(make_job):
    with pytest.raises(ConfigError, match=r"receipts\.sign: is a key itself") as error:
        make_job("models:/none@champion", receipts={"sign": "-----BEGIN PRIVATE KEY-----\nMC4CAQA\n"})
    assert "MC4CAQA" not in str(error.value)


def test_a_sink_that_keeps_no_receipts_is_refused(make_job):
    sink = {"type": "snowflake", "table": "db.schema.scores", "connection": "x"}
    with pytest.raises(ConfigError, match="receipts: a table of type snowflake keeps none"):
        make_job("models:/none@champion", sinks=[sink], state="state", receipts={"sign": "key.pem"})


def test_a_run_without_receipts_is_named(capfd, signed, make_job, models):
    score(make_job(models[0], predictions={"p": 0}))
    found = prove(capfd, "--key", "7")
    assert (found.code, "has left no receipt" in found.err) == (2, True)
    assert score(signed()).status == "published"  # what has changed is that rows are to be proved
    assert prove(capfd, "--key", "7").code == 0


@pytest.mark.long
def test_a_held_run_and_one_that_was_put_back_are_proved(capfd, signed):
    job = signed()
    held = score(job, hold=True)
    assert run(capfd, "publish", "conf/scores.yaml", "--run", held.run_id).code == 0
    assert prove(capfd, "--key", "7").code == 0
    write("lake/features", pa.table({"id": np.arange(ROWS), "a": np.arange(ROWS) / 3}), mode="overwrite")
    score(job)
    assert run(capfd, "rollback", "conf/scores.yaml").code == 0
    assert prove(capfd, "--key", "7").code == 0
    assert check(capfd, "--json").json["statement"]["run_id"] == held.run_id


@pytest.mark.long
@pytest.mark.usefixtures("spark")
def test_the_root_is_the_same_on_every_engine_and_carrier(signed, make_job, models):
    make_key("key")
    for part in range(3):  # files of several types
        some = np.arange(100) + 100 * part
        rows = {
            "id": some, "day": pa.array(some.astype("datetime64[D]")), "at": pa.array(some.astype("datetime64[us]")),
            "seen": pa.array(some * 10**6, pa.timestamp("us", "UTC")), "name": [f"né {n}" for n in some],
            "amount": pa.array([Decimal(int(n)) / 4 for n in some], pa.decimal128(12, 4)), "flag": some % 2 == 0,
            "raw": [bytes([n % 256]) for n in some], "few": pa.array(some % 100, pa.int8()), "a": some / 7,
        }  # fmt: skip
        write("lake/mixed", pa.table(rows))
    roots, carriers = [], []
    frame = "id >= 0 or id >= 0"  # which Spark itself has to read
    for number, (engine, where) in enumerate((("local", None), ("spark", None), ("spark", frame))):
        source = {"table": "lake/mixed", **({"where": where} if where else {})}
        job = make_job(models[0], source=source, keys=[name for name in rows if name != "a"], predictions={"p": 0},
                       sinks=[{"type": "delta", "table": f"lake/scores{number}"}], receipts={"sign": "key.pem"})  # fmt: skip
        carriers.append(score(job, engine).carrier)
        roots += [commit["receipt"]["statement"]["root"] for commit in commits(f"lake/scores{number}")[:1]]
    assert (carriers, len(set(roots))) == (["files", "files", "frame"], 1)


def a_proof(features=True, **more):
    """A proof as `prove` makes it, of one of 40 rows. `more`: what its statement says besides."""
    model = {"name": "churn", "version": "3", "digest": "ab" * 32}
    given = {"a": 1.5, "b": None, "c": {"date": "2026-01-02"}}
    digest = hashlib.sha256(encode_values(given.values())).digest()
    keys, predictions = {"id": 7, "name": "Zoë"}, {"p": 0.25, "label": True, "odds": {"float": "Infinity"}}
    values = [*model.values(), {"binary": digest.hex()}, *keys.values(), *predictions.values()]
    own = merkle.leaf(encode_values(values))
    others = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(39))
    tree = merkle.tree(merkle.in_order(merkle.as_leaves(own + others)), own)
    statement = {
        "fingerprint": "f" * 64, "feature_names": digest_of_names(list(given)), "generation": 2, "input": "lake/features",
        "input_version": 0, "job": "churn", "keys": list(keys), "predictions": list(predictions),
        "root": tree.root.hex(), "rows": 40, "run_id": "0123", "scored_at": "2026-01-02T03:04:05+00:00",
        "slice": {"day": "2026-01-02", "region": "eu"}, "tables": ["lake/scores"], **more,
    }  # fmt: skip
    statement = formats.with_version(formats.RECEIPT, statement)
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = private.public_key().public_bytes_raw()
    return Proof(
        statement, model, keys, predictions, digest, given if features else None, tree.path,
        private.sign(message_of(statement)), public,
    ).content  # fmt: skip


def holds(content):
    """Whether a proof is accepted, as `check-proof` does it."""
    try:
        return not proofs.check_file(content, "proof.json").wrong
    except LakehouseError:
        return False


PROOF = a_proof()


def test_the_proof_that_is_changed_below_holds():
    assert holds(PROOF)
    assert holds(a_proof(features=False))


def test_what_was_proved_once_is_proved_the_same_way_for_ever():
    assert hashlib.sha256(PROOF).hexdigest() == "605e2b40fbe0c1dc0404f47e0dac726a8c8b47c90dc8b822049b6a7a12b25403"


def test_a_statement_that_says_more_than_is_known_is_refused_though_it_is_signed():
    assert not holds(a_proof(note="and so on"))


@pytest.mark.parametrize("part", ["features", "keys", "predictions"])
def test_values_under_each_others_names_are_refused(part):
    said = json.loads(PROOF)
    first, second, *others = said[part]
    said[part] = dict(zip([second, first, *others], said[part].values(), strict=True))
    found = proofs.check_file(json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n", "proof.json")
    assert [line.partition(":")[0] for line in found.wrong] == [part]


@settings(max_examples=1_000, deadline=None)
@given(st.integers(0, len(PROOF) - 1), st.integers(0, 7))
def test_any_bit_that_is_changed_is_refused(at, bit):
    changed = bytearray(PROOF)
    changed[at] ^= 1 << bit
    assert not holds(bytes(changed))


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(PROOF) - 1), st.binary(max_size=3), st.integers(0, 2))
def test_what_is_added_or_left_out_is_refused(at, more, less):
    changed = PROOF[:at] + more + PROOF[at + less :]
    assert changed == PROOF or not holds(changed)


def fields_of(node, path=()):
    """The path of each value in an object."""
    parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, part in parts:
        yield (*path, name)
        yield from fields_of(part, (*path, name))


@pytest.mark.parametrize("value", [None, 0, "", "00" * 32, [], {}, True, {"float": "NaN"}, "delete"])
def test_any_field_that_has_another_value_or_is_left_out_is_refused(value):
    paths = list(fields_of(json.loads(PROOF)))
    assert len(paths) > 50
    for path in paths:
        said = json.loads(PROOF)
        node = said
        for name in path[:-1]:
            node = node[name]
        if node[path[-1]] == value and type(node[path[-1]]) is type(value):
            continue
        if value == "delete":
            del node[path[-1]]
        else:
            node[path[-1]] = value
        assert (path, holds(json.dumps(said, indent=1, ensure_ascii=False).encode() + b"\n")) == (
            path,
            path == ("features",) and value == "delete",
        )


def test_a_proof_of_a_newer_format_is_named():
    said = json.loads(PROOF)
    said["statement"]["format"] = 2
    with pytest.raises(ConfigError, match="written by a newer lakehouse"):
        proofs.check_file(json.dumps(said, indent=1).encode(), "proof.json")
