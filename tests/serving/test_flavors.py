"""Models of every flavour answer over HTTP as in the run that published: `lakehouse parity` finds them equal."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from lakehouse.serving.flask_app import application
from lakehouse.serving.limits import Limits
from lakehouse.serving.prepared import JobFile
from lakehouse.serving.preparing import prepare
from lakehouse.serving.server import server_for
from tests.command import run
from tests.models.flavors import comparing
from tests.models.flavors.table import ENTRIES, entries

# as in tests.models.flavors.test_flavors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

NAMES = (f"served{i}" for i in itertools.count())


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@contextmanager
def serving(conf: str) -> Iterator[str]:
    """The address of a server of the job in this process."""
    prepared = prepare(JobFile(conf), Path("models"), datetime.now(UTC), lambda message: None)
    served = server_for([prepared], Limits(), {})
    with open("access.log", "w") as log:
        server = make_server("127.0.0.1", 0, application(lambda: served, log))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.quick("sklearn: decision_function, three classes of doubles", "xgboost: predict of a category, one unseen")
@pytest.mark.parametrize("name", list(entries(by_spark=False)))
def test_a_server_answers_as_the_run_did(name, workspace, mlflow_left_alone, models_folder, capfd):
    comparing.connect(models_folder)
    case = ENTRIES[name].make()
    published, _ = comparing.run(case.log(next(NAMES)).model_uri, case)
    with serving("job.yaml") as address:
        said = run(capfd, "parity", "job.yaml", "--url", address, "--all", "--json")
    assert said.code == 0, said.err + said.out
    assert (said.json["checked"], said.json["differing"]) == (published.rows_scored, 0)
