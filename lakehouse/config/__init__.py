"""The job file: what it may say, how it is read, and what is said when it is wrong.

`job` has the whole, files beside it its sections, `systems` each system's part of source and sinks, `reading` merges
files, targets and overrides, `reference` and `schema` tell people and editors what there is. Nothing here opens a
table or a model.
"""

from lakehouse.config.challengers import Challenger, Promotion
from lakehouse.config.checks import Checks, Drift, Quarantine
from lakehouse.config.job import Job
from lakehouse.config.model import Features, Model, Prediction, SignedBy
from lakehouse.config.reading import load_job
from lakehouse.config.records import Metrics, Tracking
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
