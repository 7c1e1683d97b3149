"""Workers that can't begin: a model that loads in the process which makes it ready, and in a worker only once a file is gone."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import infer_signature

from lakehouse.errors import ModelRefused, Unavailable
from lakehouse.serving import beginning, watching
from tests.conftest import write
from tests.serving.conftest import Place
from tests.serving.test_server import call, serving

MOODY = """
import sys
import threading
import time
from pathlib import Path

import mlflow

class Moody(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        if not Path({marker!r}).exists() or "lakehouse.serving.watching" in sys.orig_argv:
            return
        seconds = Path({marker!r}).read_text()
        if not seconds:
            raise MemoryError("there is no room")
        threading.Thread(target=threading.Event().wait, daemon=True).start()  # so that each worker loads it
        time.sleep(float(seconds))

    def predict(self, context, model_input, params=None):
        return model_input["a"].to_numpy() * {factor}

mlflow.models.set_model(Moody())
"""


@pytest.fixture
def moody(tmp_path, tracking_uri, monkeypatch, request):
    """A job's place, the file that stands in its workers' way, or has the seconds that loading takes there, and
    `register(factor)`, another version as the champion."""
    place, marker = Place(tmp_path, str(tmp_path / "likes.yaml")), tmp_path / "marker"
    write(place.table("features"), pa.table({"id": np.arange(9), "a": np.linspace(0, 1, 9)}))
    x, name = pd.DataFrame({"a": [0.5]}), request.node.name
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    mlflow.set_tracking_uri(tracking_uri)

    def register(factor):
        (tmp_path / "moody.py").write_text(MOODY.format(marker=str(marker), factor=factor))
        if mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, (tmp_path / "artifacts").as_uri())
        mlflow.set_experiment(name)
        info = mlflow.pyfunc.log_model(
            name="moody", python_model=str(tmp_path / "moody.py"), signature=infer_signature(x, x["a"]),
            pip_requirements=["mlflow"], registered_model_name=name,
        )  # fmt: skip
        mlflow.MlflowClient().set_registered_model_alias(name, "champion", info.registered_model_version)

    register(1)
    model = {"uri": f"models:/{name}@champion", "tracking_uri": tracking_uri, "trust": ["python_function"]}
    place.write_job("", "", model=model, predictions={"p": 0}, keep=[], checks={})
    yield place, marker, register
    mlflow.set_tracking_uri(None)


@pytest.mark.long
def test_at_the_first_start_the_server_ends_and_names_the_job_and_the_cause(moody):
    place, marker, _ = moody
    marker.touch()
    command = [sys.executable, "-m", "lakehouse.cli", "serve", place.conf, "--port", "1027"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 4, ended.stderr
    assert "likes: the model can't be loaded here: MemoryError: there is no room" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "serving likes at" not in ended.stderr


@pytest.mark.long
def test_the_version_before_is_served_until_workers_can_load_the_new_one(moody):
    place, marker, register = moody
    body = b'[{"id": 1, "a": 0.5}]'
    with serving(place) as (address, process, log):

        def score():
            status, said = call(f"{address}/v1/likes/score", body)
            assert status == 200, log.read_text()
            return said["scores"][0]["p"]

        def wait_for(seen, seconds=240):
            until = time.monotonic() + seconds
            while not seen():
                assert time.monotonic() < until, log.read_text()
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)

        wait_for(lambda: "serving likes at" in log.read_text())  # until then it is the first start
        assert score() == 0.5
        marker.touch()
        register(2)
        wait_for(lambda: score() == 0.5 and log.read_text().count("tried again in") >= 3)
        said = [line for line in log.read_text().splitlines() if "tried again in" in line]
        assert [line.partition("again in ")[2].partition(" s")[0] for line in said[:3]] == ["1", "2", "4"]
        assert all("likes: the model can't be loaded here: MemoryError: there is no room" in line for line in said)
        marker.unlink()
        wait_for(lambda: score() == 1.0)
        assert "Traceback" not in log.read_text()


@pytest.mark.long
def test_a_worker_may_load_a_model_for_longer_than_it_may_hang_later(moody):
    place, marker, _ = moody
    marker.write_text("40")
    with serving(place, "--timeout", "1") as (address, _, log):
        assert call(f"{address}/v1/likes/score", b'[{"id": 1, "a": 0.5}]')[0] == 200
        assert "TIMEOUT" not in log.read_text()
        assert "was sent" not in log.read_text()


def test_what_a_worker_says_reaches_the_master_as_the_error_that_it_is(tmp_path):
    worker = beginning.os.getpid()
    assert isinstance(beginning.why_not(tmp_path, worker), ModelRefused)  # it has said nothing
    beginning.say(tmp_path, Unavailable("the registry is away"))
    assert not beginning.has_begun(tmp_path, worker)
    error = beginning.why_not(tmp_path, worker)
    assert (type(error), str(error)) == (Unavailable, "the registry is away")
    beginning.say(tmp_path, None)
    assert beginning.has_begun(tmp_path, worker)
    assert beginning.why_not(tmp_path, worker) is None


def test_what_fails_is_tried_ever_more_seldom_until_it_succeeds():
    patience = beginning.Patience(5)
    assert not patience.waits
    assert [patience.wait_longer() for _ in range(5)] == [1, 2, 4, 5, 5]
    assert patience.waits
    patience.forget()
    assert (patience.waits, patience.wait_longer()) == (False, 1)


def test_models_are_kept_while_they_are_served_whatever_is_made_ready_after_them(tmp_path):
    def ready(number, *owners):
        folder = tmp_path / str(number)
        for place, _ in enumerate(owners):
            (folder / str(place)).mkdir(parents=True, exist_ok=True)
        jobs = tuple(
            SimpleNamespace(folders={"d": str(tmp_path / str(owner) / str(n))}) for n, owner in enumerate(owners)
        )
        (folder / "jobs.pickle").write_bytes(pickle.dumps(jobs))

    ready(1, 1, 1)
    ready(2, 2, 1)  # of its second job the first number's model goes on
    watching.say_served(tmp_path, "2")
    for number in (3, 4, 5):
        ready(number, number, number)
        watching._remove_unused(tmp_path, number)
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_dir()) == ["1", "2", "4", "5"]
