"""What a job file may say of its source, its sinks and who is told: one file a system, with the models of each.

A file holds a subclass of `Source`, of `Sink`, of both, or of `Receiver`, each with the `type` that people write as its
only literal. It is found by lying here. What other code has to know of a system before anything is read is a constant
of its model.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import Field, GetCoreSchemaHandler, ModelWrapValidatorHandler, PrivateAttr, model_validator
from pydantic_core import CoreSchema

from lakehouse.config.values import Secret, Section, Text, fault_of_address, tuple_of
from lakehouse.errors import nearest

Outcome = Literal["blocked", "failed", "drifted", "held", "published", "rolled_back", "discarded"]


class SystemSection(Section):
    """A section of the job file that is about some system, which its `type` names."""

    type: str


class TableSection(SystemSection):
    """A section of the job file that names a table in some system, and what is known of that system."""

    table: Text | None

    IN_FILES: ClassVar[bool] = True
    """Whether the table is a folder, so that `table` is a path or URI."""

    CATALOG_FORMAT: ClassVar[str] = ""
    """What Spark's catalog calls the format of such tables; empty where `table` is never a name of the catalog."""

    REFUSED: ClassVar[dict[str, str]] = {}
    """Why a key that other systems have is none of this one, where there is more to say than which ones have it."""

    def key_of(self, table: str) -> str:
        """What is the same for two spellings of one table of this system."""
        return table.rstrip("/") if "://" in table else posixpath.normpath(table)

    @model_validator(mode="wrap")
    @classmethod
    def _without_keys_of_others(cls, value: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Let a key that only other systems have stand while it is empty; name these systems where it isn't."""
        if not isinstance(value, dict):
            return validate(value)
        owners = _owners(next(part for part in cls.__mro__ if TableSection in part.__bases__))
        others = {key: owners[key] for key in owners if key in value and key not in cls.model_fields}
        section = validate({key: given for key, given in value.items() if key not in others})
        for key, types in others.items():
            if value[key] not in (None, [], ()):
                raise ValueError(f"{key}: {cls.REFUSED.get(key) or 'only with type: ' + ' or '.join(types)}")
        return section


Part = TypeVar("Part", bound=SystemSection)
"""`Source`, `Sink`, `Receiver` or `EventStream`."""


class Source(TableSection):
    """Where the rows to score are read."""

    type: str = Field(description="the system the input is in")
    table: Text | None = Field(None, description="the input table")
    where: Text | None = Field(
        None, description="SQL condition on the rows to score; may use {date}", examples=["event_date = '{date}'"]
    )
    min_rows: int = Field(1, ge=0, description="with fewer rows the input is not ready (exit 6)", examples=[1000])

    IN_RANGES: ClassVar[bool] = False
    """Whether a run takes what came since the last published one, whose end the scored table itself remembers."""

    TAKES: ClassVar[bool] = False
    """Whether a run says at its end that it is done with its rows: to the system that handed them out, or in notes."""

    PLACES: ClassVar[tuple[str, ...]] = ()
    """The columns that say where a row is in the input: they are read in any case, and rows set aside have them."""

    CASELESS: ClassVar[bool] = False
    """Whether case plays no part in the names of columns, unless the job says so."""

    NO_SETTINGS: ClassVar[frozenset[str]] = frozenset({"min_rows"})
    """Keys that change no score: what is read when is in a run's fingerprint by itself."""

    _positions: Mapping[str, int] = PrivateAttr(default_factory=dict)
    _taking: Any = PrivateAttr(default=None)

    @property
    def name(self) -> str:
        """What is read, for people."""
        return self.table or ""

    @property
    def positions(self) -> Mapping[str, int]:
        """Where reading goes on, by the names under which the scored table remembers it."""
        return self._positions

    def after(self, positions: Mapping[str, int]) -> Source:
        """The source as it is read from these positions on, where it is read in ranges."""
        source = self.model_copy()
        source._positions = dict(positions)
        return source

    @property
    def taking(self) -> Any:
        """What a run has been handed out, and will be; None where nobody runs the job."""
        return self._taking

    def with_taking(self, taking: Any) -> Source:
        """The source as a run reads it that is handed rows out."""
        source = self.model_copy()
        source._taking = taking
        return source


class Sink(TableSection):
    """A table that the scores are published to."""

    type: str = Field(description="the system the table is in")
    table: Text = Field(description="the scored table")
    write: Literal["replace", "append", "merge"] = Field(
        "replace",
        description="replace the slice (or the whole table), append this date's rows once, or merge (upsert on keys)",
        examples=["merge"],
    )

    HOLDS_STAGED_FILES: ClassVar[bool] = False
    """Whether a run's files are staged in the table's own folder, and become its own where they lie."""
    KEEPS_RECEIPTS: ClassVar[bool] = False
    """Whether the commit of a run keeps what it has signed."""


class Receiver(SystemSection):
    """Who is told how a run ended."""

    type: str = Field(description="the system that is told")
    url: Secret = Field(
        description="where the system takes messages; a secret, so that it is named by a variable of the environment",
        examples=["${CHURN_WEBHOOK}"],
    )
    on: Annotated[tuple[Outcome, ...], tuple_of("outcome")] = Field(
        ("blocked", "failed", "drifted", "held", "rolled_back", "discarded"),
        description="the outcomes that are told: blocked, failed, drifted (beyond `checks.drift.psi`, whatever became "
        "of the run), held, published, rolled_back, discarded (what was held)",
        examples=[["blocked", "failed"]],
    )

    @model_validator(mode="after")
    def _on_the_web(self) -> Receiver:
        if fault := fault_of_address(self.url.get_secret_value(), login=True):
            raise ValueError(f"url: {fault}")
        return self


class EventStream(SystemSection):
    """A stream that gets events of the job's runs after their commits."""

    type: str = Field(description="the system the events go to")
    rows: bool = Field(
        False, description="send an event a scored row as well, before the one of the run", examples=[True]
    )

    @property
    def name(self) -> str:
        """What gets the events, for people."""
        return ""

    def is_read_as(self, source: Source) -> bool:
        """Whether it is known to be the very stream that a source reads."""
        return False


@cache
def models_of(part: type[Part]) -> dict[str, type[Part]]:
    """The models of a part of the job file (as `Source`) by the `type` that chooses each."""
    for module in iter_modules(__path__, f"{__name__}."):
        import_module(module.name)
    return dict(sorted((get_args(m.model_fields["type"].annotation)[0], m) for m in _of_a_system(part)))


def _of_a_system(part: type[Part]) -> Iterator[type[Part]]:
    """The models of a part that are one system's own: those below it whose `type` is a literal."""
    for model in part.__subclasses__():
        yield from [model] if get_args(model.model_fields["type"].annotation) else _of_a_system(model)


def build(part: type[Part], /, type: str, **keys: Any) -> Part:
    """A part made in code: the model for this type with these keys; those that it doesn't know are refused.

    Raises ValueError where the type isn't known or the keys don't go together.
    """
    models = models_of(part)
    if type not in models:
        raise ValueError(f"type {type!r} is unknown, {nearest(type, models)}")
    made: Part = models[type](type=type, **keys)
    return made


def source_of(table: Sink, **keys: Any) -> Source:
    """The source that reads a sink's table."""
    known = models_of(Source)[table.type].model_fields
    own = {key: value for key, value in table.model_dump(exclude_none=True).items() if key in known}
    return build(Source, **{**own, **keys})


@cache
def _owners(part: Any) -> dict[str, list[str]]:
    """The types that know each key of a part."""
    models = models_of(part)
    keys = dict.fromkeys(key for model in models.values() for key in model.model_fields)
    return {key: [type_ for type_, model in models.items() if key in model.model_fields] for key in keys}


class OneOf:
    """Marks a key whose value is one of a part's models, the one that `type` names."""

    def __get_pydantic_core_schema__(self, part: type[SystemSection], handler: GetCoreSchemaHandler) -> CoreSchema:
        models = models_of(part).values()
        if len(models) == 1:
            return handler.generate_schema(*models)
        union = reduce(or_, models)
        return handler.generate_schema(Annotated[union, Field(discriminator="type")])
