"""A run against the study it belongs to: a rehearsal's terms, or what a hospital declared when it signed."""

from collections import Counter
from pathlib import Path

from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.keys import require_private_keys
from fedcall.privacy.terms import delta_fault
from fedcall.protection.ceremony import read_shares
from fedcall.study.quorum import with_least_sites
from fedcall.study.registered_keys import require_registered
from fedcall.study.terms import Study, read_study
from fedcall.workflow.configuration import RELATIVE_TO, Config, Patient
from fedcall.workflow.judges import check_judges
from fedcall.workflow.rows_of_people import PUBLIC
from fedcall.workflow.withdrawn import record_folders, withdrawn_names
from fedcall.yaml_files import place

ENCLAVE = "enclave"
"""The folder of the simulated machine of a rehearsal of sealed updates."""
_HELPERS = {"masked": ("helper",), "encrypted": ("holder_a", "holder_b")}


def rehearsal_helpers(study: Study) -> tuple[str, ...]:
    """Return the names, and folders, of the helpers or key holders that a rehearsal of a study makes for itself."""
    return _HELPERS.get(study.protection.mode, ())


def check_rehearsal(config: Config, study: Study, patients: list[Patient], declared: Counter[str]) -> None:
    """Check that everybody of a rehearsal may take part, and that its terms are those it began with, if it did.

    Raises
    ------
    FedcallError
        In one line, on the first thing that does not fit.
    PrivacyRefusal
        If people are private and the configuration does not say that they are charged for good.
    """
    if not declared:
        raise FedcallError(f"{config.samples}: no patient has split 'train', so there is nothing to learn from")
    private = [patient.patient for patient in patients if patient.private == "yes"]
    if private and not config.charge_for_good:
        raise PrivacyRefusal(
            f"{config.samples}: a rehearsal is for people whose data is public or simulated, and {len(private)} of"
            f" {len(patients)} are private ('{private[0]}' first): write 'no' in the column 'private' if their data is"
            " public, or set 'charge_for_good: true', and what the rehearsal charges them in 'ledger' stays charged"
        )
    for patient in patients:
        if patient.split == "holdout" and patient.site not in (*declared, PUBLIC):
            raise FedcallError(
                f"{config.samples}: patient '{patient.patient}': unknown site '{patient.site}'"
                f" (sites with training patients: {', '.join(declared)})"
            )
    check_judges(config, study, patients, list(declared))
    if not (Path("results") / study.name / "study.json").exists():
        with_least_sites(study, len(declared), str(place(config.study, ["aggregation", "minimum_sites"])))
    if study.aggregation.minimum_sites > len(declared):
        raise FedcallError(
            f"{place(config.study, ['aggregation', 'minimum_sites'])}: aggregation.minimum_sites"
            f" {study.aggregation.minimum_sites} exceeds the {len(declared)} sites of the run"
        )
    if study.least_sites > len(declared):
        raise FedcallError(
            f"{place(config.study, ['protection', 'minimum_sites'])}: protection.minimum_sites"
            f" {study.least_sites} exceeds the {len(declared)} sites of the run: no"
            f" {'sum' if study.sends_sums else 'average'} would ever be opened"
        )
    taken = (*rehearsal_helpers(study), *((ENCLAVE,) if study.protection.mode == "sealed" else ()))
    clash = next((name for name in taken if name in declared), None)
    if clash is not None:
        raise FedcallError(
            f"{config.samples or config.study}: no site may be named '{clash}' if updates are {study.protection.mode}"
        )
    for site, count in declared.items():
        units = count * (study.privacy.examples_per_patient or 1)
        fault = delta_fault("privacy.delta", study.privacy.delta, units, f"{study.privacy.unit}s of site '{site}'")
        if fault:
            raise FedcallError(f"{place(config.study, ['privacy', 'delta'])}: {fault}")
    _check_unchanged(config, study, declared)


def check_site(path: Path, config: Config, study: Study, patients: list[Patient]) -> None:
    """Check that a hospital's configuration, sheet and keys are those its signed study knows.

    Raises
    ------
    FedcallError
        In one line, on the first thing that does not fit.
    """
    assert config.site is not None
    _check_folder(config, study)
    terms = study.protection
    if terms.encryption is not None:
        read_shares(terms.encryption, terms.signing_keys, config.study)
    known = [site.name for site in study.sites]
    if config.site not in known:
        raise FedcallError(
            f"{place(path, ['site'])}: site '{config.site}' is not part of study '{study.name}'"
            f" (sites: {', '.join(known)})"
        )
    for patient in patients:
        if patient.site not in (*known, PUBLIC):
            raise FedcallError(
                f"{config.samples}: patient '{patient.patient}': unknown site '{patient.site}'"
                f" (sites of study '{study.name}': {', '.join(known)})"
            )
    training = sum(patient.site == config.site and patient.split == "train" for patient in patients)
    if not training and not withdrawn_names(record_folders(config.ledger, config.site)):
        raise FedcallError(f"{config.samples}: no training patient of site '{config.site}'")
    declared = study.site(config.site).patients
    if training > declared:
        sheet = config.samples or place(path, ["cohort"])
        raise FedcallError(
            f"{sheet}: {training} training patients, but site '{config.site}' declared {declared} in study"
            f" '{study.name}'; list the declared number or fewer, or agree on a new study"
        )
    check_judges(config, study, patients, [config.site])
    if config.drop is not None:
        if not config.drop.is_dir():
            raise FedcallError(
                f"{place(path, ['drop'])}: drop: no such folder: {config.drop} ({RELATIVE_TO}); make it, or mount it"
            )
    elif config.handover is None and config.syft is None:
        _check_way(path, config)
    keys = Path(config.site_key.format(site=config.site))
    if not (keys / "site.json").is_file():
        raise FedcallError(
            f"{place(path, ['site_key'])}: no keys in {keys};"
            f" make them with 'fedcall site keygen --name {config.site} --output …'"
        )
    require_private_keys(keys)
    try:
        require_registered(study, config.site, keys)
    except FedcallError as error:
        raise FedcallError(f"{place(path, ['site_key'])}: {error}") from None


def _check_unchanged(config: Config, terms: Study, declared: Counter[str]) -> None:
    """Refuse to go on with rounds that were trained under other terms or other declared patients."""
    folder = Path("results") / terms.name
    is_served = (folder / "aggregator/study.json").exists()
    if not (folder / "study.json").is_file() or not (is_served or any(folder.glob("*/rounds/*/claim.json"))):
        return
    begun = read_study(folder / "study.json")
    changed = [
        key
        for key in ("rounds", "model", "training", "privacy", "aggregation", "admission", "evaluation", "protection")
        if _agreed(begun, key, begun) != _agreed(terms, key, begun)
    ]
    if {site.name: site.patients for site in begun.sites} != declared:
        changed.append("patients per site")
    if changed:
        raise FedcallError(
            f"{config.study}: study '{terms.name}' has begun with other terms ({', '.join(changed)}; see"
            f" {folder}/study.yaml); give the changed study another name, take the old terms back, or"
            f" move {folder} away"
        )


def _agreed(study: Study, key: str, begun: Study) -> object:
    if key == "aggregation" and "minimum_sites" not in study.aggregation.model_fields_set:
        return study.aggregation.model_copy(update={"minimum_sites": begun.aggregation.minimum_sites})
    if key == "protection":
        return study.protection.model_copy(update={"helpers": (), "encryption": None, "evidence": None})
    return study.model.model_copy(update={"initial_weights": None}) if key == "model" else getattr(study, key)


def _check_folder(config: Config, study: Study) -> None:
    """Refuse to work in the folder of another study of the same name, whose rounds would be made again or deleted."""
    agreed = Path("results") / study.name / "study.json"
    if not agreed.is_file():
        return
    begun = read_study(agreed)
    if begun.digest != study.digest:
        raise FedcallError(
            f"{config.study}: results/{study.name} belongs to another study of the same name ({begun.digest}), and this"
            f" one is {study.digest}; move results/{study.name} away to keep it, or agree on another name"
        )


def _check_way(path: Path, config: Config) -> None:
    """Look for what the exchanges need; found before hours of pileups rather than after."""
    assert config.ca is not None
    assert config.aggregator is not None
    if not config.ca.is_file():
        raise FedcallError(
            f"{place(path, ['ca'])}: ca: no such file: {config.ca} ({RELATIVE_TO}); the coordinator gives it"
        )
    if b"-----BEGIN CERTIFICATE-----" not in config.ca.read_bytes():
        raise FedcallError(
            f"{place(path, ['ca'])}: ca: {config.ca} is no certificate (PEM); ask the coordinator for ca.crt again"
        )
    host, _, port = config.aggregator.rpartition(":")
    if not host or not port.isdecimal():
        raise FedcallError(f"{place(path, ['aggregator'])}: aggregator {config.aggregator!r}: HOST:PORT expected")
