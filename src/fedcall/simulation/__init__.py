"""Cohorts whose truth is known, for rehearsals, tests and benchmarks."""
