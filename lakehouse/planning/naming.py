"""What a job file alone says of where its run's things are: state, staged files, quarantine, and the run's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse import sinks
from lakehouse.sinks.target import COMPARISON, QUARANTINE, SINK, uri_of
from lakehouse.storage import Location, locate

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink


def state_of(job: Job) -> Location:
    """The job's state folder: `state:`, by default beside the Delta sink's table."""
    if job.state is None:
        assert job.delta_sink is not None  # as the job file's own checks demand
        return locate(job.delta_sink.table).beside("_state")
    return locate(job.state)


def quarantine_of(job: Job) -> Sink:
    """The job's quarantine table, by default beside the first sink's table."""
    first, name = job.sinks[0], job.checks.quarantine.table
    if name is None:
        sink = sinks.of(first.type)
        name = sink.beside(uri_of(first), sink.QUARANTINE_SUFFIX)
    return first.model_copy(update={"table": name, "write": "append"})


def comparisons_of(job: Job) -> Sink:
    """The table of the challengers' predictions, by default beside the first sink's table."""
    first, name = job.sinks[0], job.comparison.table
    if name is None:
        sink = sinks.of(first.type)
        name = sink.beside(uri_of(first), sink.COMPARISON_SUFFIX)
    return first.model_copy(update={"table": name})


def tables_beside(job: Job) -> list[Sink]:
    """The table of comparisons of a job that names challengers."""
    return [comparisons_of(job)] if job.model.challengers else []


def staging_folders(job: Job) -> list[Location]:
    """Where a run's files are staged that are not in the folder of a Delta table."""
    own = sinks.of(job.sinks[0].type).IN_PLACE
    in_place = {SINK: job.delta_sink is not None, QUARANTINE: own, COMPARISON: own or not job.model.challengers}
    return [staged_files(job, kind) for kind, there in in_place.items() if not there]


def staged_files(job: Job, kind: str) -> Location:
    return state_of(job).join("staged", kind)


def identity_of(job: Job) -> str:
    """`<job>/<slice>`: with the generation, the name of what a run publishes. An append's slice is its date.

    Of what is read in ranges it is only what their identities begin with (`ranges.identity`).
    """
    if job.source.IN_RANGES:
        return f"{job.job}/"
    values = {"date": job.date} if job.sinks[0].write == "append" else dict(job.slice)
    return f"{job.job}/" + ",".join(f"{name}={value}" for name, value in sorted(values.items()))
