"""What a function's cold start is spent on, for the demo's model: `python -m tests.benchmarks.functions [--turns N]`.

The package is that for Lambda, unzipped; each start is a process of its own, which sees nothing else, in turns with what
its libraries alone take: `import sklearn`, and the model loaded by its own library and asked for a row.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.demo.data import write_games
from lakehouse.demo.train import train
from lakehouse.serving.limits import Limits
from lakehouse.serving.packaged import Settings
from lakehouse.serving.packaging import Packed, Wanted, package
from lakehouse.serving.packaging.kinds import KINDS
from lakehouse.serving.prepared import JobFile, Prepared
from lakehouse.serving.preparing import prepare

ROOT = Path(__file__).parents[2]
HERE = (99, 0)
"""The package runs on this machine, so that its C library is the right one."""
IMPORT = "import sklearn"
LIBRARY = """
import glob, sys
import numpy, sklearn, skops.io
[file] = glob.glob(sys.argv[1] + "/models/*/model.skops")
model = skops.io.load(file, trusted=["numpy.dtype"])
model.predict_proba(numpy.zeros((1, {features})))
"""
OURS = "import lambda_function"
STEPS = """
import json, time
marks = [("", time.perf_counter())]
def mark(name): marks.append((name, time.perf_counter()))
import numpy; mark("import numpy")
import pyarrow, pyarrow.compute, pyarrow.csv; mark("import pyarrow")
import lakehouse.serving.aws_lambda; mark("import lakehouse")
import sklearn, sklearn.pipeline, sklearn.impute, sklearn.linear_model, skops.io; mark("import scikit-learn, scipy, skops")
import sys
from pathlib import Path
from lakehouse.serving.packaged import open_package
open_package(Path(sys.argv[1]), alone=True); mark("digest, model loaded, first row")
print(json.dumps({name: at - before for (_, before), (name, at) in zip(marks, marks[1:])}))
"""


def job(folder: Path) -> JobFile:
    """The demo's job on small tables of its own."""
    tracking = f"sqlite:///{folder}/mlflow.db"
    write_games(folder, rows_per_date=1_000, training_rows=2_000)
    train(str(folder / "training" / "games"), tracking)
    own = {
        "source.table": folder / "features" / "games",
        "source.where": "null",
        "model.tracking_uri": tracking,
        "state": folder / "state",
    }
    return JobFile(str(ROOT / "conf" / "games.yaml"), None, tuple(f"{key}={value}" for key, value in own.items()))


def packed(folder: Path) -> tuple[Prepared, Packed, Path]:
    """The demo's job, its package, and where that is unzipped."""
    (folder / "package").mkdir()
    file = job(folder)
    prepared = prepare(file, folder / "models", datetime.now(UTC), lambda _: None)
    wanted = Wanted(KINDS["lambda"], Settings(Limits()), True, (), HERE, Path(file.conf).read_text())
    made = package(prepared, wanted, folder / "package", folder / "games.zip")
    with zipfile.ZipFile(folder / "games.zip") as archive:
        archive.extractall(folder / "task")
    return prepared, made, folder / "task"


def start(task: Path, code: str, *options: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Seconds that a process takes for this, and what it said; it imports from the package only."""
    set_up = f"import sys; sys.path.insert(0, {str(task)!r})\n"
    began = time.perf_counter()
    command = [sys.executable, "-I", "-S", "-B", *options, "-c", set_up + code, str(task)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env={"PATH": os.environ["PATH"]})  # fmt: skip
    return time.perf_counter() - began, ended


def imports(text: str) -> Counter[str]:
    """Of `-X importtime`: milliseconds of each top-level package's own modules."""
    found = Counter[str]()
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)", text, re.MULTILINE):
        top = name.split(".")[0]
        found["Python's own" if top in sys.stdlib_module_names else top] += int(own) / 1_000
    return found


def main() -> None:
    """Print medians of whole processes, the ratio, and what a cold start is spent on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as place:
        prepared, made, task = packed(Path(place))
        unzipped, zipped = made.sizes
        print(
            f"package: {unzipped / 1e6:.1f} MB unzipped, {zipped / 1e6:.1f} MB zipped; Lambda takes 262.1 MB unzipped\n"
        )
        for name, (size, small) in list(made.parts.items())[:8]:
            print(f"| {name} | {size / 1e6:.1f} | {small / 1e6:.1f} |")
        library = LIBRARY.format(features=len(prepared.scoring.features))
        cases = {"an empty process": "", IMPORT: IMPORT, "the model by its library": library, "the function": OURS}
        taken: dict[str, list[float]] = {name: [] for name in cases}
        for turn in range(turns + 1):
            for name, code in cases.items():
                seconds, _ = start(task, code)
                if turn:  # the first one reads from disk
                    taken[name].append(seconds)
        medians = {name: statistics.median(times) for name, times in taken.items()}
        print("\n| process | median s | least s |\n|---|---|---|")
        for name, times in taken.items():
            print(f"| {name} | {medians[name]:.2f} | {min(times):.2f} |")
        base = medians["the model by its library"]
        print(f"\nratio to the model by its library: {medians['the function'] / base:.2f}; to {IMPORT}: {medians['the function'] / medians[IMPORT]:.2f}")  # fmt: skip
        steps = [json.loads(start(task, STEPS)[1].stdout.splitlines()[-1]) for _ in range(turns)]
        print("\n| step | median ms |\n|---|---|")
        for name in steps[0]:
            print(f"| {name} | {statistics.median(step[name] for step in steps) * 1e3:.0f} |")
        print("\n| imports of | ms of its own (with -X importtime, which adds to it) |\n|---|---|")
        for name, took in imports(start(task, OURS, "-X", "importtime")[1].stderr).most_common(12):
            print(f"| {name} | {took:.0f} |")


if __name__ == "__main__":
    main()
