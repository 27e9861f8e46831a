"""From terms to a signed study: what the coordinator fills in, what people review, what is refused."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from fedcall.documents import describe, write_signed
from fedcall.errors import FedcallError
from fedcall.keys import SiteIdentity, read_signing_key
from fedcall.study.terms import Study, read_study_terms
from fedcall.weights import read_weights

_REVIEW_HEADER = """\
# The complete study '{name}'. Read it before it is signed; all sites train under exactly these terms.
# Sign it: fedcall study sign --study THIS.yaml --keys COORDINATOR_KEYS --output study.json
"""


def complete_terms(terms: Path, initial: Path, coordinator: Path, sites: list[str]) -> Study:
    """Return the terms with coordinator, sites and the digest of the initial weights filled in.

    Parameters
    ----------
    sites : list of "SITE.JSON=PATIENTS"
        Public file of each site and its declared number of training patients.

    Raises
    ------
    FedcallError
        If a file is missing, a site is badly written, or the whole breaks a rule of the study.
    """
    draft = read_study_terms(terms)
    filled = draft.model_dump(mode="json")
    filled["coordinator"] = _read_public(coordinator).public_key
    filled["sites"] = [_declare(text) for text in sites]
    filled["model"]["initial_weights"] = read_weights(initial).digest
    named = draft.model.initial_weights
    if named not in (None, filled["model"]["initial_weights"]):
        raise FedcallError(
            f"{terms}: model.initial_weights is {named}, but {initial} has {filled['model']['initial_weights']};"
            " leave the key out or give the model it names"
        )
    try:
        study = Study.model_validate(filled)
    except ValidationError as error:
        raise FedcallError(f"{terms}: {describe(error)}") from None
    return study


def sign_study(path: Path, keys: Path, output: Path) -> Study:
    """Sign the complete study in the YAML file `path` with the coordinator's key; write it to `output`."""
    study = read_study_terms(path)
    if not study.is_complete:
        raise FedcallError(f"{path}: lacks sites, coordinator or initial weights; fill them with 'fedcall study new'")
    identity = _read_public(Path(keys) / "site.json")
    if identity.public_key != study.coordinator:
        raise FedcallError(
            f"{keys}: these are the keys of '{identity.name}' ({identity.public_key}),"
            f" but {path} names coordinator {study.coordinator}"
        )
    write_signed(output, study, read_signing_key(keys))
    return study


def review_yaml(study: Study) -> str:
    """Return the study as YAML for people; reading it back gives the same study."""
    content = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return _REVIEW_HEADER.format(name=study.name) + content


def summarise(study: Study) -> dict[str, object]:
    """Return what a person wants to know before approving a study, in printing order."""
    privacy = study.privacy
    return {
        "name": study.name,
        "digest": study.digest,
        "coordinator": study.coordinator,
        "initial_weights": study.model.initial_weights,
        "rounds": study.rounds,
        "sites": ", ".join(f"{site.name} ({site.patients} patients)" for site in study.sites),
        "unit": privacy.unit,
        "mechanism": privacy.mechanism,
        "noise_multiplier": privacy.noise_multiplier,
        "sampling_rate": privacy.sampling_rate,
        "steps_per_round": privacy.steps_per_round,
        "delta": privacy.delta,
        "max_epsilon": privacy.max_epsilon,
        "trainable": study.model.trainable,
        "aggregation": study.aggregation.strategy,
    }


def _read_public(path: Path) -> SiteIdentity:
    try:
        return SiteIdentity.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such public file; 'fedcall site keygen' makes it (site.json)") from None
    except (ValidationError, IsADirectoryError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else "a folder"
        raise FedcallError(f"{path}: not the public file of a site ({reason}); give its site.json") from None


def _declare(text: str) -> dict[str, object]:
    path, separator, patients = text.rpartition("=")
    if not separator or not patients.isdecimal() or int(patients) < 1:
        raise FedcallError(f"--site {text!r}: SITE.JSON=PATIENTS expected, with a whole number of patients above zero")
    identity = _read_public(Path(path))
    return {
        "name": identity.name,
        "public_key": identity.public_key,
        "node_key": identity.node_key,
        "patients": int(patients),
    }
