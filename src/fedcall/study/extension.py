"""A study that goes on from the final model of another: more rounds, sites that join or leave, new keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fedcall.documents import describe
from fedcall.errors import FedcallError
from fedcall.privacy.accounting.epsilon import Epsilon, round_event
from fedcall.privacy.accounting.filter import cumulative_epsilon
from fedcall.protection.helper_keys import read_helper_identity
from fedcall.study.drafting import declare_site
from fedcall.study.quorum import least_sites
from fedcall.study.terms import Study, read_study
from fedcall.weights import read_weights


@dataclass(frozen=True)
class Extension:
    """What `fedcall study extend` is asked for: a study that goes on from the final model of another.

    Attributes
    ----------
    study : signed study that is over, or was closed
    final : its final model
    name : of the new study
    rounds : of the new study
    sites : as in `complete_terms`; sites of the same name are replaced (new keys, another number), others join
    without : names of sites that leave
    helpers : public file of each helper of the new study; none: the old study's helpers go on
    """

    study: Path
    final: Path
    name: str
    rounds: int
    sites: Sequence[str] = ()
    without: Sequence[str] = ()
    helpers: Sequence[Path] = ()


def extend_study(wanted: Extension) -> tuple[Study, Epsilon | None]:
    """Return the study that goes on, and what both cost a patient who is in all rounds of both.

    The terms stay; the new study begins with the old one's final model and names the old one's digest. Its terms were
    chosen after results of the old one were seen, so losses add up by an RDP filter (Feldman and Zrnic
    2021; `accounting.filter`), as in the ledger.

    Raises
    ------
    FedcallError
        If the model is not the study's, the name is the old one's, or the whole breaks a rule of a study.
    """
    old, weights = read_study(wanted.study), read_weights(wanted.final)
    done = weights.metadata.get("round", "")
    if weights.metadata.get("study") != old.digest or not done.isdecimal() or int(done) < 2:
        raise FedcallError(f"{wanted.final}: not a model that rounds of study '{old.name}' ({old.digest}) made")
    if wanted.name == old.name:
        raise FedcallError(f"--name {wanted.name}: is the old study's; results of both would lie in one folder")
    unknown = [name for name in wanted.without if name not in {site.name for site in old.sites}]
    if unknown:
        old.site(unknown[0])
    declared = {str(site["name"]): site for site in map(declare_site, wanted.sites)}
    filled = old.model_dump(mode="json")
    sites = {site["name"]: site for site in filled["sites"] if site["name"] not in wanted.without} | declared
    chosen = max(old.aggregation.minimum_sites, least_sites(max(len(sites), 1)))
    filled["aggregation"]["minimum_sites"] = min(chosen, len(sites)) or 1
    filled |= {"name": wanted.name, "rounds": wanted.rounds, "sites": list(sites.values()), "continues": old.digest}
    filled["model"]["initial_weights"] = weights.digest
    if wanted.helpers:
        filled["protection"]["helpers"] = _other_helpers(old, wanted.helpers)
    try:
        new = Study.model_validate(filled)
    except ValidationError as error:
        raise FedcallError(f"{wanted.study}: extended: {describe(error)}") from None
    if old.privacy.noise_multiplier == 0:
        return new, None
    event = round_event(old.privacy)
    charges = ((old.digest, event, int(done) - 1), (new.digest, event, wanted.rounds))
    return new, cumulative_epsilon(charges, old.privacy.delta, old.privacy.unit, old.privacy.max_epsilon, True)


def _other_helpers(old: Study, helpers: Sequence[Path]) -> list[dict[str, object]]:
    """Return the helpers of the new study in place of the old one's."""
    if old.protection.mode != "masked":
        raise FedcallError(
            f"--helper: study '{old.name}' has protection mode '{old.protection.mode}'; helpers are exchanged in mode"
            " 'masked' only (the joint key of mode 'encrypted' is made for its holders: make a new study)"
        )
    return [read_helper_identity(path).model_dump(mode="json") for path in helpers]
