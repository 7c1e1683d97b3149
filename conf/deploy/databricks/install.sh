#!/bin/sh
# On each machine as it starts: the package and what it needs, but for Spark and Delta, which the runtime brings.
set -eu
python=${SCORING_PYTHON:-/databricks/python/bin/python}
"$python" -m pip install --quiet --no-deps "$SCORING_FILES"/dist/lakehouse-*.whl
"$python" - >"${TMPDIR:-/tmp}/lakehouse-requirements.txt" <<'END'
from importlib.metadata import requires

for requirement in requires("lakehouse"):
    if "extra ==" not in requirement and not requirement.startswith(("pyspark", "delta-spark")):
        print(requirement)
END
"$python" -m pip install --quiet -r "${TMPDIR:-/tmp}/lakehouse-requirements.txt"
