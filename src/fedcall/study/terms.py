"""The study: everything that must be equal at every site, named by the SHA-256 of its canonical form."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedcall.documents import Document, GrownDocument, read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.mechanism.adaptive_clipping import sum_multiplier
from fedcall.privacy.mechanism.pooling import Pool, check_capacity
from fedcall.privacy.terms import PrivacyTerms, delta_fault
from fedcall.protection.bfv import MOST_SITES
from fedcall.study.aggregation_terms import SUM_STRATEGIES, AggregationTerms
from fedcall.study.evaluation import EvaluationTerms
from fedcall.study.names import Name as Name  # all of fedcall takes it from here
from fedcall.study.names import PublicKey
from fedcall.study.protection import OPENING_SUMS, Protection
from fedcall.yaml_files import read_yaml

Trainable = Literal["all", "norm_and_head", "head", "chemistry", "chemistry_and_head"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Site(GrownDocument):
    """A hospital of the study; its number of patients is declared and public."""

    NEWER: ClassVar[tuple[str, ...]] = ("holdout",)

    name: Name
    public_key: PublicKey = Field(description="Ed25519 key that signs the site's claims, base64.")
    node_key: str = Field(description="ECDSA P-384 key of the site's Flower node, OpenSSH form.")
    patients: Annotated[int, Field(ge=1)] = Field(description="Training patients, declared.")
    holdout: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Held-out patients with a truth, declared; only with evaluation.epsilon. Null: none."
    )


class ModelTerms(Document):
    """The model every site trains."""

    architecture: Literal["pileup_residual"] = "pileup_residual"
    initial_weights: Digest | None = Field(None, description="Content digest of the first global model.")
    trainable: Trainable = Field(
        "all",
        description="Which tensors training may change: all of the network, its norms and head, its head; chemistry:"
        " the likelihood's own constants below it, which cannot know a place; chemistry_and_head: both.",
    )

    def is_trainable(self, tensor: str) -> bool:
        """Say whether training may change the tensor of this name."""
        is_head, is_chemistry = tensor.startswith("head."), tensor.startswith("chemistry.")
        if is_chemistry or self.trainable == "chemistry":
            return is_chemistry and self.trains_chemistry
        is_norm = re.search(r"(^|\.)norm\d*\.", tensor) is not None
        return self.trainable == "all" or is_head or (self.trainable == "norm_and_head" and is_norm)

    @property
    def trains_chemistry(self) -> bool:
        """Whether training changes constants of the likelihood."""
        return self.trainable in ("chemistry", "chemistry_and_head")

    def check_weights(self, names: Iterable[str], source: str) -> None:
        """Refuse first weights that lack what is to be trained: those of a fedcall that knew no chemistry."""
        if self.trains_chemistry and not any(name.startswith("chemistry.") for name in names):
            raise FedcallError(
                f"{source}: made before models had a chemistry, and model.trainable '{self.trainable}' trains it; make"
                " the first model again with 'fedcall train-public', or choose another part to train"
            )

    def trainable_names(self, names: Iterable[str]) -> list[str]:
        """Return the sorted names of the tensors that training may change."""
        return sorted(name for name in names if self.is_trainable(name))


class TrainingTerms(Document):
    """The local optimiser: plain SGD on noisy sums, so that an update is a known linear map of its noise."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    iterate_averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Decay of the moving average of iterates that is released; 0 releases the last iterate.",
    )


class AdmissionTerms(Document):
    """What the aggregator refuses, beyond what follows from the other terms."""

    max_update_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Ceiling on the L2 norm of an update; left out, it follows from clip norm, noise and steps.",
    )
    max_refusals: Annotated[int, Field(ge=1)] = Field(3, description="Refusals in a row that quarantine a site.")
    outlier_z: Annotated[float, Field(ge=4, allow_inf_nan=False)] | None = Field(
        6.0,
        description="Standard errors, beyond the known noise, at which an update is unlike the round's other sites"
        " (three or more) and is put out; null: sites are not compared.",
    )
    outlier_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        3.0, description="How many times longer than the other sites' a site's signal may honestly be."
    )


class Study(GrownDocument):
    """The agreement all sites sign; without sites and initial weights until `fedcall study new` fills it."""

    NEWER: ClassVar[tuple[str, ...]] = ("evaluation", "continues", "protection")

    name: Name
    coordinator: PublicKey | None = Field(None, description="Ed25519 key that signs this study and all receipts.")
    sites: tuple[Site, ...] = ()
    model: ModelTerms = ModelTerms()
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 4
    training: TrainingTerms = TrainingTerms()
    privacy: PrivacyTerms = PrivacyTerms()
    aggregation: AggregationTerms = AggregationTerms()
    admission: AdmissionTerms = AdmissionTerms()
    evaluation: EvaluationTerms | None = Field(
        None, description="Regions nobody trains on, and the private judge; left out, there are neither."
    )
    protection: Protection = Field(
        Protection(), description="Who could see one site's update; left out, the coordinator does (plain)."
    )

    continues: Digest | None = Field(
        None, description="Digest of the study whose final model this one begins with ('fedcall study extend')."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [site.name for site in self.sites]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"site '{name}' is listed {names.count(name)} times; a site may appear once")
        for site in self.sites:
            units = self.units(site.name)
            fault = delta_fault(
                "privacy.delta", self.privacy.delta, units, f"{self.privacy.unit}s of site '{site.name}'"
            )
            if fault:
                raise ValueError(fault)
            try:
                sum_multiplier(self.privacy, units)
            except ValueError as error:
                raise ValueError(f"site '{site.name}': {error}") from None
        self._check_judge()
        self._check_protection()
        if self.sites and self.aggregation.minimum_sites > len(self.sites):
            raise ValueError(
                f"aggregation.minimum_sites {self.aggregation.minimum_sites} exceeds the {len(self.sites)} sites listed"
            )
        return self

    def _check_judge(self) -> None:
        for site in self.sites:
            if site.holdout is None:
                continue
            if self.evaluation is None or self.evaluation.epsilon is None:
                raise ValueError(
                    f"site '{site.name}' declares {site.holdout} held-out patients, which only a study with"
                    " evaluation.epsilon does; leave the number out, or agree on evaluation.epsilon"
                )
            whose = f"held-out patients of site '{site.name}'"
            fault = delta_fault("evaluation.delta", self.evaluation.delta, site.holdout, whose)
            if fault and self.evaluation.mechanism == "gaussian":
                raise ValueError(fault)

    def _check_protection(self) -> None:
        terms, averaging = self.protection, self.training.iterate_averaging
        if self.privacy.noise == "pooled" and not self.sends_sums:
            raise ValueError(
                f"privacy.noise 'pooled' in protection mode '{terms.mode}' is not private:"
                f" {'the enclave' if terms.mode == 'sealed' else 'the coordinator'} sees each update with its own share"
                " of the noise alone; set protection.mode: masked, or privacy.noise: own"
            )
        if averaging and (self.privacy.contribution == "delta" or self.sends_sums):
            reason = (
                f"mode '{terms.mode}' opens noisy sums" if self.sends_sums else "contribution 'delta' is one noisy sum"
            )
            raise ValueError(f"training.iterate_averaging {averaging:g} averages steps of a round, but {reason}; set 0")
        if self.sites and terms.minimum_sites is not None and len(self.sites) < terms.minimum_sites:
            raise ValueError(
                f"protection.minimum_sites {terms.minimum_sites} exceeds the {len(self.sites)} sites listed: no"
                f" {'sum' if self.sends_sums else 'average'} would ever be opened; name more sites, or lower it"
            )
        averaged = self.aggregation.averaged(self.least_sites)
        if terms.mode == "sealed" and averaged < (terms.minimum_sites or 1):
            raise ValueError(
                f"aggregation.strategy '{self.aggregation.strategy}' would publish values of {averaged} of"
                f" {self.least_sites} updates, and protection.minimum_sites is {terms.minimum_sites}: what leaves the"
                " enclave would not be an average of so many; choose fedavg, or raise aggregation.minimum_sites"
            )
        if not self.sends_sums:
            return
        if self.privacy.steps_per_round != 1:
            raise ValueError(
                f"protection mode '{terms.mode}' opens one noisy sum a round (found privacy.steps_per_round"
                f" {self.privacy.steps_per_round}); set steps_per_round: 1, with more rounds or contribution: delta"
            )
        if self.privacy.mechanism != "gaussian" or self.privacy.clipping != "fixed":
            raise ValueError(
                f"protection mode '{terms.mode}' needs privacy.mechanism 'gaussian' and privacy.clipping 'fixed': all"
                " sites' vectors lie on one grid"
            )
        if self.aggregation.strategy not in SUM_STRATEGIES:
            raise ValueError(
                f"aggregation.strategy '{self.aggregation.strategy}' looks at single updates, and protection mode"
                f" '{terms.mode}' opens none; choose {' or '.join(SUM_STRATEGIES)}, or protection.mode: plain"
            )
        if not self.sites:
            return
        if terms.is_encrypted and len(self.sites) > MOST_SITES:
            raise ValueError(f"protection mode 'encrypted' adds at most {MOST_SITES} sites, found {len(self.sites)}")
        clash = {site.name for site in self.sites} & {helper.name for helper in terms.helpers}
        if clash:
            raise ValueError(f"'{min(clash)}' is the name of a site and of a helper; names must differ")
        check_capacity(
            sum(self.units(site.name) for site in self.sites),
            self.privacy.noise_multiplier,
            len(self.sites) / self.noise_shares,
        )

    @property
    def sends_sums(self) -> bool:
        """Whether sites send sums of which only totals over sites are opened, in place of updates."""
        return self.protection.mode in OPENING_SUMS

    @property
    def noise_shares(self) -> int:
        """Number of sites' shares that make the agreed noise: 1 where each site adds all of it."""
        return self.protection.shares if self.privacy.noise == "pooled" else 1

    @property
    def round_event(self) -> Event:
        """What one round does to a unit of any site."""
        return round_event(self.privacy, self.noise_shares)

    @property
    def pool(self) -> Pool | None:
        """Who shares the noise; None where each site adds all of it."""
        return Pool(self.noise_shares, self.protection.tolerated_sites) if self.privacy.noise == "pooled" else None

    @property
    def least_sites(self) -> int:
        """Number of updates that make an average; with fewer a round changes nothing."""
        return max(self.aggregation.minimum_sites, self.protection.minimum_sites or 1)

    @property
    def step_size(self) -> float:
        """What the noisy mean of contributions is multiplied by to become an update: deltas are steps already."""
        return 1.0 if self.privacy.contribution == "delta" else self.training.learning_rate

    @property
    def judging_sites(self) -> tuple[Site, ...]:
        """Sites whose held-out patients judge the final model; none without evaluation.epsilon."""
        return tuple(site for site in self.sites if site.holdout is not None)

    @property
    def judging_round(self) -> int:
        """Number under which the judge's release stands in ledger, requests and receipts: the one after the last."""
        return self.rounds + 1

    @property
    def unseen_regions(self) -> tuple[str, ...]:
        """Regions that no site trains on, as agreed."""
        return self.evaluation.regions if self.evaluation else ()

    def site(self, name: str) -> Site:
        """Return the named site, or raise FedcallError that lists the sites there are."""
        for site in self.sites:
            if site.name == name:
                return site
        known = ", ".join(site.name for site in self.sites) or "none"
        raise FedcallError(f"site '{name}' is not part of study '{self.name}' (sites: {known})")

    def units(self, name: str) -> int:
        """Return the declared, public number of privacy units (patients or examples) of a site."""
        return self.site(name).patients * (self.privacy.examples_per_patient or 1)

    @property
    def lacks(self) -> str:
        """What must be named before the study can be signed; empty if nothing is missing."""
        if not (self.sites and self.coordinator and self.model.initial_weights):
            return "sites, coordinator or initial weights"
        return self.protection.lacks

    @property
    def is_complete(self) -> bool:
        """Whether everything is named, so that the study can be signed."""
        return not self.lacks


def read_study_terms(path: Path) -> Study:
    """Read the terms of a study: YAML that may still lack sites, coordinator and weights, or a signed study (.json).

    Raises
    ------
    FedcallError
        If the file is missing, is not YAML, or breaks a rule; the message names file, line and key.
    """
    return read_study(path) if Path(path).suffix == ".json" else read_yaml(path, Study)


def read_study(path: Path) -> Study:
    """Read a signed study and check the coordinator's signature; the study must be complete."""
    try:
        signed = Path(path).read_bytes()
        study, _ = read_unverified(signed, Study)
        if not study.is_complete or study.coordinator is None:
            raise FedcallError(f"study lacks {study.lacks or 'its coordinator'}; make it with 'fedcall study new'")
        return verify(signed, Study, study.coordinator)
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such study; the coordinator makes it with 'fedcall study sign'") from None
    except FedcallError as error:
        raise FedcallError(f"{path}: {error}") from None
