"""Great Expectations' suites, as far as they can be evaluated on Arrow batches while these are scored. Pure.

Great Expectations' own answers on Spark are the measure; an expectation whose answer could differ isn't compiled.
"""

from lakehouse.rules.catalogue import how_evaluated
from lakehouse.rules.checks import RowRule
from lakehouse.rules.compiling import Compiled, Other, compile_suite
from lakehouse.rules.counters import State, dump, merge, observe, start
from lakehouse.rules.outcomes import Outcome, RowCount, row_outcome, table_outcome
from lakehouse.rules.predicates import observed, unexpected
from lakehouse.rules.suite import Expectation, read_suite
from lakehouse.rules.tables import TableRule

__all__ = [
    "Compiled",
    "Expectation",
    "Other",
    "Outcome",
    "RowCount",
    "RowRule",
    "State",
    "TableRule",
    "compile_suite",
    "dump",
    "how_evaluated",
    "merge",
    "observe",
    "observed",
    "read_suite",
    "row_outcome",
    "start",
    "table_outcome",
    "unexpected",
]
