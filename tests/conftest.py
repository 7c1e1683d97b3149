"""What the tests share: one Spark session, one MLflow registry, and short ways to make tables, models and jobs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Credentials of the tests' S3 server, from the start: Spark's workers have the environment that its JVM began with.
os.environ.update(AWS_ACCESS_KEY_ID="tests", AWS_SECRET_ACCESS_KEY="tests", AWS_EC2_METADATA_DISABLED="true")
if "SNOWFLAKE_TEST_CONNECTION" not in os.environ:  # likewise where the connections.toml of the stand-in is
    _snowflake_home = tempfile.TemporaryDirectory(prefix="lakehouse-snowflake-")
    os.environ["SNOWFLAKE_HOME"] = _snowflake_home.name

import hypothesis
import pyarrow as pa
import pytest
import yaml

from lakehouse import pipeline
from lakehouse.config import Job, load_job
from lakehouse.connectors import delta
from lakehouse.runs import ledger
from lakehouse.storage import locate
from tests import kafka_server, kinesis_service, pubsub_server, warehouse
from tests import s3_server as s3_server_py

LONG = bool(os.environ.get("LAKEHOUSE_LONG_TESTS"))


def turns(quick: int, long: int) -> int:
    """How often a test of random inputs tries: a few times, or many in `make test-long`, which runs those marked `seeds`."""
    return long if LONG else quick


# A machine that is busy is no defect of what is tried.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test marked `quick` the cases that it doesn't name are left to `make test-long`.

    The long runs come last; where processes share the files, those that have long runs first: no tail of one.
    """
    whole = not any("::" in argument for argument in config.args)
    asked: dict[str, set[str]] = {}
    for item in items:
        if quick := item.get_closest_marker("quick"):
            name, case = item.nodeid.partition("[")[0], item.callspec.id  # type: ignore[attr-defined]  # it is a function
            asked.setdefault(name, set(quick.args)).discard(case)
            if case not in quick.args:
                item.add_marker("long")
    if whole and (unknown := {name: cases for name, cases in asked.items() if cases}):
        raise pytest.UsageError(f"marked quick, but no such case is there: {unknown}")
    items.sort(key=_is_long)
    if config.getoption("dist", "no") != "no" or hasattr(config, "workerinput"):
        long = {item.path for item in items if _is_long(item)}
        items.sort(key=lambda item: item.path not in long)


def _is_long(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """The one Spark session, with Delta; the engine finds it as the active one."""
    from lakehouse.engines import spark as engine

    with engine.session(delta=True) as session:
        session.sparkContext.setLogLevel("OFF")
        # Workers find models of the tests' own, wherever the test that began the session had gone to.
        session.sparkContext.environment["PYTHONPATH"] = str(Path(__file__).parents[1])
        # Tables here are tiny: a second task or compiling code for each query takes longer than running it.
        session.conf.set("spark.sql.shuffle.partitions", "1")
        session.conf.set("spark.databricks.delta.snapshotPartitions", "1")
        session.conf.set("spark.sql.codegen.wholeStage", "false")
        session.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        yield session


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server on loopback, with a bucket; see s3_server.py."""
    command = [sys.executable, str(Path(s3_server_py.__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        urllib.request.urlopen(urllib.request.Request(f"{address}/{s3_server_py.BUCKET}", method="PUT")).close()
        yield address
        server.terminate()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The environment of somebody whose storage is the S3 server.

    Call it with faults, (pattern, action, times) each, to make them happen, without to get those that did not.
    """
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def fail(*faults: tuple[str, str, int]) -> list[Any]:
        body = json.dumps(faults).encode() if faults else None
        request = urllib.request.Request(f"{s3_server}/_faults", body, method="PUT" if faults else "GET")
        with urllib.request.urlopen(request) as reply:
            return [fault for fault in json.load(reply) if fault[2]]

    yield fail
    fail(("", "refuse", 0))


def requests(server: str) -> list[str]:
    """What the S3 server was asked for since this was last called; see s3_server.py."""
    with urllib.request.urlopen(f"{server}/_requests") as reply:
        return list(json.load(reply))


@pytest.fixture(scope="session")
def snowflake_server() -> Iterator[warehouse.Warehouse]:
    """The stand-in for Snowflake; see snowflake_server.py."""
    with warehouse.running() as server:
        yield server


@pytest.fixture
def snow(snowflake_server: warehouse.Warehouse) -> Iterator[warehouse.Warehouse]:
    """The stand-in for Snowflake with an empty log and without faults, before and after the test."""
    snowflake_server.reset()
    yield snowflake_server
    snowflake_server.reset()


@pytest.fixture
def account(request: pytest.FixtureRequest) -> Iterator[warehouse.Account]:
    """A schema of this test's own in Snowflake: on the stand-in, or where SNOWFLAKE_TEST_CONNECTION names a real one."""
    if real := os.environ.get("SNOWFLAKE_TEST_CONNECTION"):
        with warehouse.schema(real, None) as opened:
            yield opened
        return
    server, name = request.getfixturevalue("snow"), f"T{uuid.uuid4().hex[:8].upper()}"
    server.home(Path(os.environ["SNOWFLAKE_HOME"]), database=name, schema="S")
    with warehouse.schema(warehouse.NAME, server) as opened:
        yield opened


@pytest.fixture(scope="session")
def kafka() -> Iterator[kafka_server.Broker]:
    """A Kafka broker; see kafka_server.py."""
    with kafka_server.running() as broker:
        yield broker


@pytest.fixture(scope="session")
def kinesis() -> Iterator[kinesis_service.Service]:
    """Kinesis; see kinesis_service.py."""
    with kinesis_service.running() as service:
        yield service


@pytest.fixture(scope="session")
def pubsub() -> Iterator[pubsub_server.Service]:
    """Pub/Sub; see pubsub_server.py."""
    with pubsub_server.running() as service:
        yield service


@pytest.fixture
def bucket(s3: Callable[..., Any]) -> str:
    """A folder of this test's own on the S3 server."""
    return f"s3://{s3_server_py.BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture(params=["disk", "S3"])
def lake(request: pytest.FixtureRequest) -> str:
    """The folder of a test's tables: once on disk, once on the S3 server."""
    return "lake" if request.param == "disk" else str(request.getfixturevalue("bucket"))


@pytest.fixture(autouse=True)
def mlflow_left_alone() -> Iterator[None]:
    """What a test tells MLflow for the whole process, and through the environment its children, ends with the test."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    for module, name in (("_model_registry", "_registry_uri"), ("_tracking_service", "_tracking_uri")):
        if loaded := sys.modules.get(f"mlflow.tracking.{module}.utils"):
            setattr(loaded, name, None)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow on SQLite for all tests; model names must differ."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def register(tracking_uri: str) -> Callable[..., str]:
    """register(model, X, name=None, alias="champion", method="predict", **log_model arguments) → model URI with alias.

    Logs a fitted sklearn model with the signature inferred from X (pass signature=... to say otherwise).
    """
    import mlflow
    from mlflow.models import infer_signature

    names = (f"model{i}" for i in itertools.count())

    def make(model: Any, x: Any, name: str | None = None, alias: str = "champion", method: str = "predict",
             experiment_id: str | None = None, **logging: Any) -> str:  # fmt: skip
        name = name or next(names)
        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(tracking_uri)
        try:
            if mlflow.get_experiment_by_name("tests") is None:
                folder = Path(tracking_uri.removeprefix("sqlite:///")).parent / "artifacts"
                mlflow.create_experiment("tests", folder.as_uri())
            mlflow.set_experiment(
                **({"experiment_id": experiment_id} if experiment_id else {"experiment_name": "tests"})
            )
            arguments = {
                "signature": infer_signature(x, getattr(model, method)(x)),
                "pip_requirements": ["scikit-learn"],
                "skops_trusted_types": ["numpy.dtype"],
                "pyfunc_predict_fn": method,
                **logging,
            }
            info = mlflow.sklearn.log_model(model, name=name, registered_model_name=name, **arguments)
            client = mlflow.MlflowClient()
            client.set_registered_model_alias(name, alias, str(info.registered_model_version))
        finally:
            mlflow.set_tracking_uri(before)
        return f"models:/{name}@{alias}"

    return make


@pytest.fixture(scope="session")
def imputing(register: Callable[..., str]) -> str:
    """The URI of a model of one feature `a`, which may be missing."""
    import numpy as np
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(make_pipeline(SimpleImputer(), LinearRegression()).fit(x, x["a"]), x)


@pytest.fixture
def make_job(workspace: Path, tracking_uri: str) -> Callable[..., Job]:
    """make_job(uri, date=None, **sections) → Job over lake/features → lake/scores, written to conf/<job>.yaml too.

    `lake`: another folder for these two tables.
    """

    def make(
        uri: str, date: str | None = None, overrides: Sequence[str] = (), lake: str = "lake", **sections: Any
    ) -> Job:
        content: dict[str, Any] = {
            "job": "scores",
            "source": {"type": "delta", "table": f"{lake}/features"},
            "model": {"uri": uri, "tracking_uri": tracking_uri},
            "keys": ["id"],
            "sinks": [{"type": "delta", "table": f"{lake}/scores"}],
        }
        for name, section in sections.items():
            merge = isinstance(section, Mapping) and isinstance(content.get(name), Mapping)
            content[name] = {**content[name], **section} if merge else section
        path = workspace / "conf" / f"{content['job']}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return load_job(path, date=date, overrides=overrides, environ=os.environ)

    return make


@contextmanager
def spark_settings(spark: Any, **values: str) -> Iterator[None]:
    """The session with other settings for a while."""
    before = {name: spark.conf.get(name, None) for name in values}
    for name, value in values.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            spark.conf.set(name, value) if value is not None else spark.conf.unset(name)


def score(job: Job, engine: str = "local", **request: Any) -> pipeline.Result:
    """Run a job in this process; the Spark engine uses the tests' session when it is open."""
    return pipeline.score(job, pipeline.Request(engine, ledger.now(), pipeline.new_run_id(), **request))


def opened(table: str, version: int | None = None) -> Any:
    """A table as deltalake's own."""
    from deltalake import DeltaTable

    location = locate(table)
    return DeltaTable(location.uri, version=version, storage_options=location.delta_options())


def read(table: str, version: int | None = None) -> pa.Table:
    """A Delta table's rows with the slice columns, sorted by the first column, as deltalake reads them."""
    rows = pa.table(opened(table, version).to_pyarrow_table())
    return rows.sort_by(rows.column_names[0])


def write(table: str, rows: pa.Table, partition_by: Sequence[str] = (), mode: str = "append", **more: Any) -> None:
    """Write rows to a Delta table through deltalake."""
    from deltalake import write_deltalake

    where = {"table_or_uri": locate(table).uri, "storage_options": locate(table).delta_options()}
    write_deltalake(data=rows, mode=mode, partition_by=list(partition_by) or None, **where, **more)  # type: ignore[call-overload]  # mode is a plain string here


def version(table: str) -> int:
    """The newest version of a table, -1 where there is none."""
    snapshot = delta.open_table(locate(table))
    return snapshot.version if snapshot else -1
