"""What an evaluation is made from: concordances and errors of many patients, named by their paths."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.genomics.concordance.comparison import Concordance, read_concordance
from fedcall.genomics.concordance.worst_errors import WorstErrors, read_worst_errors
from fedcall.privacy.mechanism.noise import keyed_digest
from fedcall.reporting.evaluation.documents import CALLERS, Caller


@dataclass(frozen=True)
class Result:
    """One patient's concordance, and where it belongs."""

    site: str
    caller: Caller
    patient: str
    concordance: Concordance


def read_results(paths: Sequence[Path], folder: str = "concordance") -> list[Result]:
    """Read concordances; the path …/SITE/FOLDER/CALLER/PATIENT.json names them.

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
        results.append(Result(parts[-4], caller, path.stem, read_concordance(path)))
    if not results:
        raise FedcallError(f"no concordance was given; name at least one …/SITE/{folder}/CALLER/PATIENT.json")
    _check_panels(results)
    results.sort(key=lambda result: (result.site, result.patient))  # the same order for every caller
    everyone = {(result.site, result.patient) for result in results}
    for caller in callers_of(results):
        own = {(result.site, result.patient) for result in results if result.caller == caller}
        for site, patient in sorted(everyone - own):
            raise FedcallError(f"{site}/{folder}/{caller}/{patient}.json: not given, so callers cannot be compared")
    return results


def panel_of(results: Sequence[Result]) -> str | None:
    """Return the digest of the panel of allele frequencies that this package's callers used; bcftools uses none."""
    return next((result.concordance.panel for result in results if result.caller != "bcftools"), None)


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
    found = {}
    for path in map(Path, paths):
        parts = path.absolute().parts
        if len(parts) < 4 or parts[-2] != "errors" or path.suffix != ".json":
            raise FedcallError(f"{path}: expected …/SITE/errors/PATIENT.json, which names site and patient")
        found[parts[-3], path.stem] = read_worst_errors(path)
    return found


def callers_of(results: Sequence[Result]) -> tuple[Caller, ...]:
    """Return the callers that have a result, in the order of the report."""
    found = {result.caller for result in results}
    return tuple(caller for caller in CALLERS if caller in found)


def of_caller(results: Sequence[Result], caller: Caller) -> list[Concordance]:
    """Return the concordances of one caller."""
    return [result.concordance for result in results if result.caller == caller]


def _check_panels(results: Sequence[Result]) -> None:
    panel = panel_of(results)
    for result in results:
        if result.caller != "bcftools" and result.concordance.panel != panel:
            raise FedcallError(
                f"{result.site}/concordance/{result.caller}/{result.patient}.json: its calls were made with another"
                " panel of allele frequencies than others; call again with the same 'panel' for all"
            )
