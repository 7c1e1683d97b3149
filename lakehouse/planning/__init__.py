"""Everything that is decided before the first task: the plan, the sample that is tried, the carrier, the tables."""
