"""The held-out patients who judge a study's final model: as many as agreed, each a person once."""

from collections.abc import Sequence
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.terms import Study
from fedcall.workflow.configuration import Config, Patient

MOST_FAILURES = 0.1
"""Largest product of a site's held-out patients and the delta of Gaussian noise (`study.terms`)."""


def check_judges(config: Config, study: Study, patients: Sequence[Patient], sites: Sequence[str]) -> None:
    """Refuse judges that the study or the ledger would refuse, before any job.

    Raises
    ------
    FedcallError
        Names the sheet, what was found and what to do.
    """
    terms = study.evaluation
    if terms is None or terms.epsilon is None:
        return
    for site in sites:
        judges = [one for one in patients if (one.site, one.split) == (site, "holdout") and one.truth is not None]
        _check_persons(config.samples, judges)
        if config.site is None:
            _check_delta(config.study, terms, site, len(judges))
        else:
            _check_number(config.samples, study, site, len(judges))


def _check_persons(sheet: Path | None, judges: Sequence[Patient]) -> None:
    rows: dict[str, Patient] = {}
    for one in judges:
        known = rows.setdefault(one.charged, one)
        if known is not one:
            raise FedcallError(
                f"{sheet}: held-out patients '{known.patient}' and '{one.patient}' are one person ('{one.charged}'),"
                " who judges the final model once; give one row, with a BED of all regions"
            )


def _check_number(sheet: Path | None, study: Study, site: str, found: int) -> None:
    declared = study.site(site).holdout
    if declared is not None and not 1 <= found <= declared:
        raise FedcallError(
            f"{sheet}: {found} held-out patients with a truth, but site '{site}' declared {declared} in study"
            f" '{study.name}', who judge its final model; list 1 to {declared}, or agree on a new study"
        )


def _check_delta(terms_file: Path, terms: EvaluationTerms, site: str, found: int) -> None:
    if terms.mechanism == "gaussian" and terms.delta * found > MOST_FAILURES:
        raise FedcallError(
            f"{terms_file}: evaluation.delta {terms.delta:g} times the {found} held-out patients of site '{site}' must"
            f" be at most {MOST_FAILURES:g}"
        )
