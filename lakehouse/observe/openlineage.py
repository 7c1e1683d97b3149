"""OpenLineage: where a run's rows came from and went to, column by column, and what its checks found.

Events go where the client's own configuration says, and nowhere without one. Facets are those of the specification;
README.md says what each of them has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lakehouse import sinks, sources
from lakehouse.observe.events import (
    DISCARDED,
    ROLLBACK,
    ROLLED_BACK,
    Ended,
    Event,
    Judged,
    Observe,
    Planned,
    Run,
    Started,
    Untold,
)
from lakehouse.sinks.target import SINK, uri_of

if TYPE_CHECKING:
    import pyarrow as pa
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

    from lakehouse.config import Job
    from lakehouse.planning.plan import Plan
    from lakehouse.sinks.target import Target

NAME = "OpenLineage"
PRODUCER = "urn:lakehouse:run"
_ENDS = {"published": "COMPLETE", "unchanged": "COMPLETE", ROLLED_BACK: "COMPLETE", "held": "RUNNING"}
_ENDS |= dict.fromkeys((DISCARDED, "stopped", "not_ready"), "ABORT")
"""What an event is called by the run's status; FAIL for any other."""


def observers(run: Run) -> dict[str, Callable[[], Observe]]:
    """The client, where it is configured by variables of the environment, and not turned off."""
    off = os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true"
    named = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
    given = any(os.environ.get(name) for name in named) or any(n.startswith("OPENLINEAGE__") for n in os.environ)
    return {f"{NAME}{_address()}": partial(_begin, run)} if given and not off else {}


def _address() -> str:
    """Where it goes, for people: without user, password and what follows the port, which may be secrets."""
    url = urlsplit(os.environ.get("OPENLINEAGE_URL") or os.environ.get("OPENLINEAGE__TRANSPORT__URL") or "")
    if url.hostname:
        return f" at {url.scheme}://{url.netloc.rpartition('@')[2]}"
    return f" by {file}" if (file := os.environ.get("OPENLINEAGE_CONFIG")) else ""


def _begin(run: Run) -> Observe:
    try:
        from openlineage.client import OpenLineageClient
    except ImportError as error:
        raise Untold("its client is not installed: pip install lakehouse[openlineage]") from error

    client, known = OpenLineageClient(), _Known()

    def hear(event: Event) -> None:
        if isinstance(event, Planned):
            known.plan = event.plan
        if isinstance(event, Judged):
            known.judged = event
        if isinstance(event, Started | Planned | Ended) and not (isinstance(event, Started) and run.goes_on):
            client.emit(lineage(run, event, known))

    return hear


@dataclass
class _Known:
    """What has been heard of a run so far."""

    plan: Plan | None = None
    judged: Judged | None = None


def lineage(run: Run, event: Started | Planned | Ended, known: _Known) -> RunEvent:
    """The event about a run. One that this run has finished for another has its tables only."""
    from openlineage.client import event_v2

    ended = event if isinstance(event, Ended) else None
    kind = "START" if isinstance(event, Started) else "RUNNING" if ended is None else _ENDS.get(ended.status, "FAIL")
    about = _Known() if ended is not None and ended.earlier else known
    return event_v2.RunEvent(
        eventTime=event.at.isoformat(),
        producer=PRODUCER,
        eventType=event_v2.RunState[kind],
        run=event_v2.Run(run.run_id if ended is None else ended.run_id, facets=dict(_run_facets(run.job, ended))),
        job=event_v2.Job(os.environ.get("OPENLINEAGE_NAMESPACE") or "default", _name(run, ended), facets=_job_facets()),
        inputs=[_input(about.plan, ended)] if about.plan is not None else [],
        outputs=_outputs(run.job, about, ended),
    )


def _name(run: Run, ended: Ended | None) -> str:
    """The job's name; a rollback, which has no input, is a job of its own: it leaves the job's lineage as it is."""
    back = run.command == ROLLBACK if ended is None or not ended.earlier else ended.status == ROLLED_BACK
    return f"{run.job.job}.{ROLLBACK}" if back else run.job.job


def _run_facets(job: Job, ended: Ended | None) -> Iterator[tuple[str, Any]]:
    from openlineage.client.facet_v2 import error_message_run, nominal_time_run, parent_run

    if job.date is not None and not (ended and ended.earlier):
        begins = f"{job.date}T00:00:00+00:00"
        yield "nominalTime", nominal_time_run.NominalTimeRunFacet(begins, producer=PRODUCER)
    parent = os.environ.get("OPENLINEAGE_PARENT_ID", "").split("/")
    if len(parent) == 3:  # as other programs hand it on: namespace, job and run
        of, at = parent_run.Run(parent[2]), parent_run.Job(parent[0], parent[1])
        yield "parent", parent_run.ParentRunFacet(of, at, producer=PRODUCER)
    if ended is not None and ended.error is not None:
        said = ended.message or ended.status
        yield "errorMessage", error_message_run.ErrorMessageRunFacet(said, "PYTHON", producer=PRODUCER)


def _job_facets() -> dict[str, Any]:
    from openlineage.client.facet_v2 import job_type_job

    return {"jobType": job_type_job.JobTypeJobFacet("BATCH", "LAKEHOUSE", "JOB", producer=PRODUCER)}


def _dataset(uri: str, name: str, in_files: bool) -> tuple[str, str]:
    """Namespace and name of a table: of one in files its storage and path, of another its system and its own name."""
    parts = urlsplit(uri)
    if in_files and not parts.netloc:
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") if in_files else name


def _table(system: str, uri: str) -> tuple[str, str]:
    sink = sinks.of(system)
    return _dataset(uri, sink.display_name(uri), sink.IN_PLACE)


def _input(plan: Plan, ended: Ended | None) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset

    namespace, name = _input_name(plan)
    facets: dict[str, Any] = {"schema": _schema(plan.pinned.schema, plan.pinned.comments)}
    if plan.pinned.version is not None:
        version = dataset_version_dataset.DatasetVersionDatasetFacet(str(plan.pinned.version), producer=PRODUCER)
        facets["version"] = version
    of_input = dict(_input_facets(plan, ended)) if ended is not None else {}
    return InputDataset(namespace, name, facets=facets, inputFacets=of_input)


def _input_name(plan: Plan) -> tuple[str, str]:
    folder = sources.of(plan.job.source.type).folder(plan.pinned)
    if folder is not None:
        return _dataset(folder.uri, plan.pinned.name, in_files=True)
    connection = getattr(plan.job.source, "connection", None)
    return f"{plan.job.source.type}://{connection or ''}", plan.pinned.name


def _input_facets(plan: Plan, ended: Ended) -> Iterator[tuple[str, Any]]:
    """What was read, nulls by column, and what became of every rule."""
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset,
        data_quality_metrics_input_dataset,
        input_statistics_input_dataset,
    )

    facts, result = ended.facts() or {}, ended.result
    if result is not None and result.rows_read:
        rows, size, files = result.rows_read, plan.pinned.size, plan.pinned.pieces
        counted = input_statistics_input_dataset.InputStatisticsInputDatasetFacet
        yield "inputStatistics", counted(rows, size, files, producer=PRODUCER)
        metrics = data_quality_metrics_input_dataset
        figures = (facts.get("drift") or {}).get("figures") or {}
        seen = zip(*(figures.get(name, ()) for name in ("column", "kind", "null_fraction")), strict=True)
        nulls = {
            column: metrics.ColumnMetrics(nullCount=round(share * rows), count=float(rows))
            for column, kind, share in seen
            if kind == "feature" and share is not None
        }
        facet = metrics.DataQualityMetricsInputDatasetFacet(nulls, rows, producer=PRODUCER)
        yield "dataQualityMetrics", facet
    if rules := facts.get("rules"):
        made = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet
        yield "dataQualityAssertions", made([_assertion(rule) for rule in rules], producer=PRODUCER)


def _assertion(rule: Mapping[str, Any]) -> Any:
    """A rule as it ended: how many rows broke it, none of their values."""
    from openlineage.client.facet_v2 import data_quality_assertions_dataset

    unexpected, evaluated = rule.get("unexpected"), rule.get("evaluated")
    return data_quality_assertions_dataset.Assertion(
        assertion=str(rule["type"]),
        success=bool(rule["success"]),
        column=rule["column"] if rule["suite"] == "features" else None,
        severity={"critical": "error"}.get(rule["severity"], "warn"),
        name=f"{rule['suite']}: {rule['name']}",
        actual=None if unexpected is None else f"{unexpected} of {evaluated} rows break it",
        params={"suite": rule["suite"], "column": rule["column"] or ""},
    )


def _outputs(job: Job, known: _Known, ended: Ended | None) -> list[OutputDataset]:
    """The tables of the job; once a run has staged its rows, those that it commits to, with what they get."""
    from openlineage.client.event_v2 import OutputDataset

    if known.judged is None:
        return [OutputDataset(*_table(sink.type, uri_of(sink))) for sink in job.sinks]
    committed = {s["table"]: s["version"] for s in (ended.result.sinks if ended and ended.result else ())}
    made = []
    for target in known.judged.intent.targets:
        name = sinks.of(target.type).display_name(target.uri)
        facets = {"schema": _schema(target.schema, {})} | _columns(target, known)
        made.append(
            OutputDataset(
                *_table(target.type, target.uri),
                facets=facets | _version(committed.get(name)),
                outputFacets=_written(target) if name in committed else {},
            )
        )
    return made


def _version(version: object) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    if version is None:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(str(version), producer=PRODUCER)}


def _written(target: Target) -> dict[str, Any]:
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    made = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
    size = sum(file.size for file in target.files)
    return {"outputStatistics": made(target.rows, size, len(target.files), producer=PRODUCER)}


def _columns(target: Target, known: _Known) -> dict[str, Any]:
    """Which columns of the input each column of a scored table is made of."""
    from openlineage.client.facet_v2 import column_lineage_dataset as lineage

    plan, tables = known.plan, known.judged.tables if known.judged else None
    if plan is None or tables is None or target.kind != SINK:
        return {}
    at = _input_name(plan)

    def fields(columns: Mapping[str, None], kind: str) -> lineage.Fields:
        how = [lineage.Transformation("DIRECT", kind, masking=False)]
        return lineage.Fields([lineage.InputField(*at, column, how) for column in columns])

    scoring = tables.staging.scoring
    made = {name: fields({name: None}, "IDENTITY") for name in (*scoring.keys, *scoring.keep)}
    features = {feature.column: None for feature in plan.features}
    if plan.job.model.by is not None:
        features[plan.job.model.by] = None
    made |= {output.name: fields(features, "TRANSFORMATION") for output in scoring.outputs}
    filtered = [lineage.Transformation("INDIRECT", "FILTER")]
    everywhere = [lineage.InputField(*at, column, filtered) for column in plan.pinned.where_columns]
    return {"columnLineage": lineage.ColumnLineageDatasetFacet(made, everywhere, producer=PRODUCER)}


def _schema(schema: pa.Schema, comments: Mapping[str, str]) -> Any:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [
        schema_dataset.SchemaDatasetFacetFields(f.name, str(f.type), comments.get(f.name), number)
        for number, f in enumerate(schema, 1)
    ]
    return schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER)
