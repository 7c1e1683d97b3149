"""The job file: what it may say, how it is read, and what is said when it is wrong.

`models` has a model a section, `systems` each system's part of source and sinks, `reading` merges files, targets and
overrides, `reference` and `schema` tell people and editors what there is. Nothing here opens a table or a model.
"""

from lakehouse.config.models import (
    Challenger,
    Checks,
    Drift,
    Features,
    Job,
    Metrics,
    Model,
    Prediction,
    Promotion,
    Quarantine,
    SignedBy,
    Tracking,
)
from lakehouse.config.reading import load_job
from lakehouse.config.schema import json_schema, settings
from lakehouse.config.signature import Signature
from lakehouse.config.systems import Sink, Source, build, source_of

__all__ = [
    "Challenger",
    "Checks",
    "Drift",
    "Features",
    "Job",
    "Metrics",
    "Model",
    "Prediction",
    "Promotion",
    "Quarantine",
    "Signature",
    "SignedBy",
    "Sink",
    "Source",
    "Tracking",
    "build",
    "json_schema",
    "load_job",
    "settings",
    "source_of",
]
