"""Great Expectations' suites, as far as they can be evaluated on Arrow batches while these are scored. Pure.

Great Expectations' own answers on Spark are the measure; an expectation whose answer could differ isn't compiled.
"""

from lakehouse.rules.catalogue import how_evaluated
from lakehouse.rules.checks import RowRule
from lakehouse.rules.compiling import Compiled, Other, compile_suite, overflowing, require_engine, spelled
from lakehouse.rules.conditions import Condition, engine_text, mask, renamed
from lakehouse.rules.counters import State, dump, merge, observe, start
from lakehouse.rules.outcomes import Outcome, RowCount, row_outcome, table_outcome
from lakehouse.rules.predicates import observed, unexpected
from lakehouse.rules.suite import Expectation, read_suite
from lakehouse.rules.tables import TableRule

__all__ = [
    "Compiled",
    "Condition",
    "Expectation",
    "Other",
    "Outcome",
    "RowCount",
    "RowRule",
    "State",
    "TableRule",
    "compile_suite",
    "dump",
    "engine_text",
    "how_evaluated",
    "mask",
    "merge",
    "observe",
    "observed",
    "overflowing",
    "read_suite",
    "renamed",
    "require_engine",
    "row_outcome",
    "spelled",
    "start",
    "table_outcome",
    "unexpected",
]
