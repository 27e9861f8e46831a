"""From terms to a signed study: what the coordinator fills in, what people review, what is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from fedcall.attestation.launch import measured_policy
from fedcall.attestation.policy import EvidencePolicy, words
from fedcall.documents import describe, write_signed
from fedcall.errors import FedcallError
from fedcall.keys import SiteIdentity, read_signing_key
from fedcall.privacy.accounting.epsilon import compose
from fedcall.privacy.events import round_event
from fedcall.privacy.terms import COMMON_DELTA
from fedcall.protection.ceremony import JointKey, read_shares, write_shares
from fedcall.protection.helper_keys import read_helper_identity
from fedcall.study.quorum import with_least_sites
from fedcall.study.terms import Site, Study, read_study, read_study_terms
from fedcall.weights import read_weights, refuse_own_model
from fedcall.yaml_files import read_yaml

_REVIEW_HEADER = """\
# The complete study '{name}'. Read it before it is signed; all sites train under exactly these terms.
# Sign it: fedcall study sign --study THIS.yaml --keys COORDINATOR_KEYS --output study.json
"""


@dataclass(frozen=True)
class EvidenceFiles:
    """The policy of a sealed study (YAML), and how its image is started, which gives the policy's measurements."""

    policy: Path
    launch: Path | None = None

    def read(self) -> EvidencePolicy:
        """Return the policy, measurements filled in."""
        return (
            read_yaml(self.policy, EvidencePolicy) if self.launch is None else measured_policy(self.policy, self.launch)
        )


def complete_terms(
    terms: Path,
    initial: Path,
    coordinator: Path,
    sites: list[str],
    helpers: Sequence[Path] = (),
    key: JointKey | None = None,
    evidence: EvidenceFiles | None = None,
) -> Study:
    """Return the terms with coordinator, sites and the digest of the initial weights filled in.

    Parameters
    ----------
    sites : list of "SITE.JSON=PATIENTS" or "SITE.JSON=PATIENTS+HELDOUT"
        Public file of each site, its declared number of training patients, and, where held-out patients judge the
        final model (evaluation.epsilon), their declared number.
    helpers : sequence of Path
        Public file of each helper, where updates are masked or encrypted (protection.mode).
    key : JointKey, optional
        What the key holders signed of their joint key, where updates are encrypted.
    evidence : EvidenceFiles, optional
        Of a sealed study: what its enclave must show.

    Raises
    ------
    FedcallError
        If a file is missing, a site is badly written, or the whole breaks a rule of the study.
    """
    draft = read_study_terms(terms)
    filled = draft.model_dump(mode="json")
    filled["coordinator"] = _read_public(coordinator).public_key
    filled["sites"] = [declare_site(text) for text in sites]
    filled["aggregation"] = with_least_sites(draft, len(sites), str(terms)).model_dump(mode="json")
    weights = read_weights(initial)
    refuse_own_model(weights, str(initial))
    draft.model.check_weights(weights.tensors, str(initial))
    filled["model"]["initial_weights"] = weights.digest
    if helpers:
        named_helpers = [read_helper_identity(path).model_dump(mode="json") for path in helpers]
        filled["protection"] = {**draft.protection.model_dump(mode="json"), "helpers": named_helpers}
        if key is not None:
            filled["protection"]["encryption"] = key.model_dump(mode="json")
    if evidence is not None:
        policy = evidence.read()
        if draft.protection.evidence not in (None, policy):
            raise FedcallError(f"{terms}: protection.evidence is another policy than {evidence.policy}; leave one out")
        filled["protection"] = {**draft.protection.model_dump(mode="json"), "evidence": policy.model_dump(mode="json")}
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
        raise FedcallError(f"{path}: lacks {study.lacks}; fill them with 'fedcall study new'")
    identity = _read_public(Path(keys) / "site.json")
    if identity.public_key != study.coordinator:
        raise FedcallError(
            f"{keys}: these are the keys of '{identity.name}' ({identity.public_key}),"
            f" but {path} names coordinator {study.coordinator}"
        )
    _refuse_other_study(output, study)
    if study.protection.encryption is not None:
        # Every reader needs the shares beside the study, and they are held against it before it is signed.
        write_shares(output, read_shares(study.protection.encryption, study.protection.signing_keys, path))
    write_signed(output, study, read_signing_key(keys))
    return study


def _refuse_other_study(output: Path, study: Study) -> None:
    """Keep a study that was signed before: hospitals may have approved it."""
    if not Path(output).is_file():
        return
    try:
        before = read_study(output)
    except FedcallError:
        raise FedcallError(f"{output}: is there already, and is no signed study; give another --output") from None
    if before.digest != study.digest:
        raise FedcallError(
            f"{output}: holds another signed study, '{before.name}' ({before.digest}); give another --output, or move"
            " that one away if nobody approved it"
        )


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
        "sites": ", ".join(f"{site.name} ({_declared(site)})" for site in study.sites),
        "unit": privacy.unit,
        "mechanism": privacy.mechanism,
        "noise_multiplier": privacy.noise_multiplier,
        "sampling_rate": privacy.sampling_rate,
        "steps_per_round": privacy.steps_per_round,
        "delta": privacy.delta,
        "epsilon": _epsilon(study),
        "max_epsilon": privacy.max_epsilon,
        "trainable": study.model.trainable,
        "aggregation": study.aggregation.strategy,
        "minimum_sites": f"{study.least_sites} of {len(study.sites)} make an average",
        **({"continues": study.continues} if study.continues else {}),
        **_protection(study),
        **_evaluation(study),
    }


def _epsilon(study: Study) -> str:
    """Return what the whole study costs a unit, at its own delta and at the common one."""
    terms = study.privacy
    deltas = dict.fromkeys((terms.delta, COMMON_DELTA))
    bounds = {delta: compose([(round_event(terms), study.rounds)], delta) for delta in deltas}
    if not all(bound.is_finite for bound in bounds.values()):
        return f"none: nothing bounds the loss of a {terms.unit}"
    told = ", ".join(f"{bound.pld:.3f} at delta {delta:g}" for delta, bound in bounds.items())
    return f"{told} per {terms.unit}, all rounds"


def _protection(study: Study) -> dict[str, object]:
    terms, privacy = study.protection, study.privacy
    found: dict[str, object] = {}
    if privacy.contribution == "delta":
        found["contribution"] = f"delta of {privacy.local_steps} local steps per drawn patient"
    if terms.mode != "plain":
        found["protection"] = terms.mode
    if terms.evidence is not None:
        found["enclave"] = " ".join(words(terms.evidence))
    if study.sends_sums:
        found["tolerated_sites"] = terms.tolerated_sites
        found["helpers"] = ", ".join(helper.name for helper in terms.helpers)
    if terms.encryption is not None:
        found["joint_key"] = f"{terms.encryption.digest} of ceremony {terms.encryption.ceremony}"
    if study.pool is not None and privacy.noise_multiplier > 0:
        # Imported here: only a study with pooled noise takes the seconds of an accountant.
        from fedcall.privacy.accounting.pooling import pooled_epsilon

        cost = pooled_epsilon(study.round_event, study.rounds, privacy.delta, terms.tolerated_sites)
        found["noise"] = f"pooled: each site adds one of {study.noise_shares} shares"
        found["epsilon_of_opened_sums"] = round(cost.kept.pld, 3)
        found["epsilon_against_one_hospital"] = round(cost.to_a_site.pld, 3)
        found["epsilon_if_the_promise_is_broken"] = round(cost.if_broken.pld, 3)
        found["max_epsilon_if_broken"] = privacy.max_epsilon_if_broken
    return found


def _declared(site: Site) -> str:
    held_out = "" if site.holdout is None else f", {site.holdout} held out to judge the final model"
    return f"{site.patients} patients{held_out}"


def _evaluation(study: Study) -> dict[str, object]:
    terms = study.evaluation
    if terms is None:
        return {}
    judge = "none" if terms.epsilon is None else f"epsilon {terms.epsilon:g} per held-out patient, {terms.mechanism}"
    return {"unseen_regions": ", ".join(terms.regions) or "none", "judge": judge}


def _read_public(path: Path) -> SiteIdentity:
    try:
        return SiteIdentity.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such public file; 'fedcall site keygen' makes it (site.json)") from None
    except (ValidationError, IsADirectoryError) as error:
        reason = describe(error) if isinstance(error, ValidationError) else "a folder"
        raise FedcallError(f"{path}: not the public file of a site ({reason}); give its site.json") from None


def declare_site(text: str) -> dict[str, object]:
    """Return the site that `SITE.JSON=PATIENTS[+HELDOUT]` declares, ready for `Study`."""
    path, separator, counts = text.rpartition("=")
    patients, plus, holdout = counts.partition("+")
    numbers = (patients, holdout) if plus else (patients,)
    if not separator or not all(number.isdecimal() and int(number) >= 1 for number in numbers):
        raise FedcallError(
            f"--site {text!r}: SITE.JSON=PATIENTS or SITE.JSON=PATIENTS+HELDOUT expected, with whole numbers above zero"
        )
    identity = _read_public(Path(path))
    return {
        "name": identity.name,
        "public_key": identity.public_key,
        "node_key": identity.node_key,
        "patients": int(patients),
        "holdout": int(holdout) if plus else None,
    }
