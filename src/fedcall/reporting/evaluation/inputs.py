"""What an evaluation is made from: concordances and errors of many patients, named by their paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from fedcall.callers.agreement import Agreement, read_agreement
from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import Concordance, read_concordance
from fedcall.genomics.concordance.pool import pool
from fedcall.genomics.concordance.worst_errors import WorstErrors, read_worst_errors
from fedcall.privacy.mechanism.noise import keyed_digest
from fedcall.reporting.evaluation.documents import CALLERS, MODELS, Caller
from fedcall.reporting.evaluation.people import Person


@dataclass(frozen=True)
class Result:
    """One patient's concordance, and where it belongs."""

    site: str
    caller: Caller
    patient: str
    concordance: Concordance
    person: str = ""  # several patients may be parts of one public person
    is_trained_on: bool = False  # the person, whatever the row

    @property
    def who(self) -> tuple[str, str]:
        """The person, within the site."""
        return self.site, self.person or self.patient


def read_results(
    paths: Sequence[Path], folder: str = "concordance", people: Mapping[str, Person] | None = None
) -> list[Result]:
    """Read concordances; the path …/SITE/FOLDER/CALLER/PATIENT.json names them.

    `people` says who the patients are (`people.read_people`); whoever is not in it is a person of the patient's name.

    Raises
    ------
    FedcallError
        If a path or file is not of that form, a caller lacks a patient that another caller has, or some calls were
        made with another panel of allele frequencies than others.
    """
    results = []
    for path in map(Path, paths):
        parts = path.absolute().parts
        if len(parts) < 5 or parts[-3] != folder or path.suffix != ".json":
            raise FedcallError(f"{path}: expected …/SITE/{folder}/CALLER/PATIENT.json, which names site and caller")
        caller = next((known for known in CALLERS if known == parts[-2]), None)
        if caller is None:
            raise FedcallError(f"{path}: unknown caller '{parts[-2]}' (allowed: {', '.join(CALLERS)})")
        person = (people or {}).get(path.stem, Person(path.stem))
        concordance = read_concordance(path)
        results.append(Result(parts[-4], caller, path.stem, concordance, person.name, person.is_trained_on))
    if not results:
        raise FedcallError(f"no concordance was given; name at least one …/SITE/{folder}/CALLER/PATIENT.json")
    _check_panels(results)
    results.sort(key=lambda result: (*result.who, result.patient))  # the same order for every caller
    everyone = {(result.site, result.patient) for result in results}
    for caller in callers_of(results):
        own = {(result.site, result.patient) for result in results if result.caller == caller}
        for site, patient in sorted(everyone - own):
            raise FedcallError(f"{site}/{folder}/{caller}/{patient}.json: not given, so callers cannot be compared")
    return results


def panel_of(results: Sequence[Result]) -> str | None:
    """Return the digest of the panel of allele frequencies that this package's callers used; others use none."""
    return next((result.concordance.panel for result in results if result.caller in MODELS), None)


def results_digest(results: Sequence[Result], secret: bytes) -> str:
    """Return a digest of all concordances and whose they are, which tells nothing to whoever lacks the secret."""
    parts = [(result.site, result.caller, result.patient, result.concordance.digest) for result in results]
    return keyed_digest(secret, "evaluation", *(" ".join(part).encode() for part in sorted(parts)))


def read_errors(paths: Sequence[Path]) -> dict[tuple[str, str], WorstErrors]:
    """Read the errors of the final model's calls by site and patient; the path …/SITE/errors/PATIENT.json names them.

    Raises
    ------
    FedcallError
        If a path or file is not of that form.
    """
    return {place: read_worst_errors(path) for place, path in _by_place(paths, "errors").items()}


def read_agreements(paths: Sequence[Path]) -> dict[tuple[str, str], Agreement]:
    """Read where callers agree, by site and patient; the path …/SITE/agreement/PATIENT.json names them.

    Errors are those of `read_errors`.
    """
    return {place: read_agreement(path) for place, path in _by_place(paths, "agreement").items()}


def _by_place(paths: Sequence[Path], folder: str) -> dict[tuple[str, str], Path]:
    found = {}
    for path in map(Path, paths):
        parts = path.absolute().parts
        if len(parts) < 4 or parts[-2] != folder or path.suffix != ".json":
            raise FedcallError(f"{path}: expected …/SITE/{folder}/PATIENT.json, which names site and patient")
        found[parts[-3], path.stem] = path
    return found


def callers_of(results: Sequence[Result]) -> tuple[Caller, ...]:
    """Return the callers that have a result, in the order of the report."""
    found = {result.caller for result in results}
    return tuple(caller for caller in CALLERS if caller in found)


def of_caller(results: Sequence[Result], caller: Caller) -> list[Concordance]:
    """Return the concordances of one caller, one per person: a person's patients are pooled."""
    own = sorted((result for result in results if result.caller == caller), key=lambda result: result.who)
    people = [[result.concordance for result in group] for _, group in groupby(own, lambda result: result.who)]
    return [rows[0] if len(rows) == 1 else pool(rows) for rows in people]


def people_of(results: Sequence[Result]) -> int:
    """Return how many people were scored."""
    return len({result.who for result in results})


def _check_panels(results: Sequence[Result]) -> None:
    panel = panel_of(results)
    for result in results:
        if result.caller in MODELS and result.concordance.panel != panel:
            raise FedcallError(
                f"{result.site}/concordance/{result.caller}/{result.patient}.json: its calls were made with another"
                " panel of allele frequencies than others; call again with the same 'panel' for all"
            )
