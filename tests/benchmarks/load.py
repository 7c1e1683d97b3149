"""`lakehouse serve` under load beside `mlflow models serve` with the same model: `python -m tests.benchmarks.load`.

Both with two workers on loopback, asked in turns by wrk, which Debian has (unpacked into the cache where it isn't
there). The model is that of `tests.benchmarks.serving`; each answer's scores are compared before anything is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pyarrow as pa

from lakehouse.serving.messages import ARROW, JSON
from tests.benchmarks import machine
from tests.benchmarks.serving import FEATURES, job_of
from tests.cloud_servers import installed
from tests.serving.processes import cpu_seconds, free_port

WORKERS = 2
OURS, MLFLOW = "lakehouse serve", "mlflow models serve"
DONE = """
done = function(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p99": %f}\\n', summary.requests,
    summary.duration / 1e6, failed, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""
POST = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "{kind}"
wrk.headers["Accept"] = "{accept}"
"""
GET = """
local key = 0
request = function() key = (key + 7) % {keys}; return wrk.format("GET", "{path}" .. key) end
"""


@dataclass(frozen=True)
class Case:
    """What is asked of whom. `what`: cases of the same are compared; `form`: of the body."""

    what: str
    form: str
    server: str
    script: str


def wrk() -> list[str]:
    """The client's command."""
    if found := shutil.which("wrk"):
        return [found]
    fetch = "cd {} && apt-get download wrk libluajit-5.1-2 && for one in *.deb; do dpkg -x $one .; done"
    there = installed("wrk", ["sh", "-c", fetch])
    libraries = ":".join({str(file.parent) for file in there.rglob("libluajit*.so*")})
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(there / "usr" / "bin" / "wrk")]


@contextmanager
def running(command: Sequence[str], folder: Path, ready: str, environ: dict[str, str]) -> Iterator[int]:
    """A server, once `ready` answers; its process and all of its own end with the block."""
    log = folder / f"{Path(command[2]).name}.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, env={**os.environ, **environ}, start_new_session=True
        )
    try:
        until = time.monotonic() + 300
        while not _answers(ready):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{' '.join(command)} does not answer: {log.read_text()[-3000:]}")
            time.sleep(0.3)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _answers(address: str) -> bool:
    try:
        with urlopen(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def cases(folder: Path, rows: Sequence[int], keys: int) -> list[Case]:
    """Bodies and scripts of each kind of request, in the folder."""
    made = [
        Case(
            "a score that is published",
            "",
            OURS,
            _script(folder, "get", GET.format(keys=keys, path="/v1/logit/scores/")),
        )
    ]
    random = np.random.default_rng(1)
    for count in rows:
        table = pa.table({"id": np.arange(count), **{c: random.normal(size=count) for c in FEATURES}})
        features = table.drop_columns(["id"])
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        split = {"columns": FEATURES, "data": [list(row.values()) for row in features.to_pylist()]}
        bodies: list[tuple[str, str, bytes, str]] = [
            ("records", MLFLOW, _json({"dataframe_records": features.to_pylist()}), JSON),
            ("records", OURS, _json({"records": table.to_pylist()}), JSON),
            ("split", MLFLOW, _json({"dataframe_split": split}), JSON),
            ("columns", OURS, _json({"columns": table.to_pydict()}), JSON),
            ("Arrow", OURS, stream.getvalue().to_pybytes(), ARROW),
        ]
        what = "1 row" if count == 1 else f"{count:,} rows"
        for form, server, body, kind in bodies:
            name = f"{server.split()[0]}-{form}-{count}"
            (folder / f"{name}.body").write_bytes(body)
            script = POST.format(body=folder / f"{name}.body", kind=kind, accept=kind)
            made.append(Case(what, form, server, _script(folder, name, script)))
    return made


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _script(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.lua").write_text(text + DONE)
    return str(folder / f"{name}.lua")


def measure(case: Case, address: str, process: int, seconds: float, connections: int) -> dict[str, float]:
    """One turn: requests a second, ms at the median and the 99th percentile, the server's CPU ms a request."""
    command = [
        *wrk(),
        "-t1",
        f"-c{connections}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        "-s",
        case.script,
        address,
    ]
    before = cpu_seconds(process)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=True)
    used = cpu_seconds(process) - before
    found = json.loads(done.stdout.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise SystemExit(f"{case}: {found}")
    rate, cpu = found["requests"] / found["seconds"], used * 1e3 / found["requests"]
    return {"rate": rate, "p50": found["p50"], "p99": found["p99"], "cpu": cpu}


def require_same(ours: str, theirs: str, folder: Path) -> None:
    """Both give the same probabilities for the same rows."""
    for body in sorted(folder.glob("lakehouse-records-*.body")):
        said = _post(f"{ours}/v1/logit/score", body)["scores"]
        found = _post(f"{theirs}/invocations", folder / body.name.replace("lakehouse", "mlflow"))["predictions"]
        mine = [row["p"] for row in sorted(said, key=lambda row: row["_row"])]
        assert np.allclose(mine, [row[1] for row in found], rtol=1e-9), body.name


def _post(address: str, body: Path) -> Any:
    with urlopen(Request(address, body.read_bytes(), {"Content-Type": JSON}), timeout=60) as reply:
        return json.load(reply)


def table(found: dict[Case, list[dict[str, float]]]) -> str:
    """Medians of the turns; how many times the requests a second of MLflow's faster form."""
    lines = [
        "| request | server | form | requests/s | p50 ms | p99 ms | times as many |",
        "|---|---|---|---|---|---|---|",
    ]
    medians = {
        case: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
        for case, turns in found.items()
    }
    for case, of in medians.items():
        others = [m["rate"] for c, m in medians.items() if c.what == case.what and c.server == MLFLOW]
        times = f"{of['rate'] / max(others):.1f}" if others and case.server == OURS else ""
        figures = f"{of['rate']:,.0f} | {of['p50']:.2f} | {of['p99']:.2f} | {of['cpu']:.2f}"
        lines.append(f"| {case.what} | `{case.server}` | {case.form} | {figures} | {times} |")
    return "\n".join(lines)


def main() -> None:
    """Print medians as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 1_000])
    parser.add_argument("--only", choices=["ours"], help="without MLflow's server")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        conf, uri, tracking, keys = job_of(folder)
        asked = cases(folder, given.rows, keys)
        subprocess.run(
            [sys.executable, "-m", "lakehouse.cli", "score", conf, "--engine", "local"], check=True, stdout=2
        )
        ports = {OURS: free_port(), MLFLOW: free_port()}
        addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # MLflow calls uvicorn by its name
        environ = {
            "PATH": path,
            "MLFLOW_TRACKING_URI": tracking,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}",
        }
        python = [sys.executable, "-m"]
        ours = [*python, "lakehouse.cli", "serve", conf, "--port", str(ports[OURS]), "--workers", str(WORKERS)]
        theirs = [
            *python,
            "mlflow",
            "models",
            "serve",
            "-m",
            uri,
            "--env-manager",
            "local",
            "-p",
            str(ports[MLFLOW]),
            "-w",
            str(WORKERS),
        ]
        found: dict[Case, list[dict[str, float]]] = {}
        with running(ours, folder, f"{addresses[OURS]}/v1/logit/scores/1", environ) as process:
            if given.only:
                found = _turns([case for case in asked if case.server == OURS], addresses, {OURS: process}, given)
            else:
                with running(theirs, folder, f"{addresses[MLFLOW]}/ping", environ) as other:
                    require_same(addresses[OURS], addresses[MLFLOW], folder)
                    found = _turns(asked, addresses, {OURS: process, MLFLOW: other}, given)
    about = machine.describe("python -m tests.benchmarks.load")
    print(
        f"{about['machine']['system']}, {about['machine']['cores']} cores, {about['date']}; {given.connections} connections, "
        f"{given.turns} turns of {given.seconds:g} s\n"
    )
    print(table(found))


def _turns(
    asked: Sequence[Case], addresses: dict[str, str], processes: dict[str, int], given: argparse.Namespace
) -> dict[Case, list[dict[str, float]]]:
    found: dict[Case, list[dict[str, float]]] = {case: [] for case in asked}
    paths = {OURS: "/v1/logit/score", MLFLOW: "/invocations"}

    def turn(case: Case, seconds: float) -> dict[str, float]:
        address = addresses[case.server] + paths[case.server]
        return measure(case, address, processes[case.server], seconds, given.connections)

    for case in asked:  # so that none is measured cold
        turn(case, 1)
    for number in range(given.turns):
        for case in asked:
            found[case].append(turn(case, given.seconds))
            said = f"turn {number + 1}: {case.what} {case.form} {case.server}: {found[case][-1]}"
            print(said, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
