"""The study: everything that must be equal at every site, named by the SHA-256 of its canonical form."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedcall.documents import Document, read_unverified, verify
from fedcall.errors import FedcallError
from fedcall.privacy.terms import PrivacyTerms
from fedcall.yaml_files import read_yaml

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Site(Document):
    """A hospital of the study; its number of patients is declared and public."""

    name: Name
    public_key: PublicKey = Field(description="Ed25519 key that signs the site's claims, base64.")
    node_key: str = Field(description="ECDSA P-384 key of the site's Flower node, OpenSSH form.")
    patients: Annotated[int, Field(ge=1)] = Field(description="Training patients, declared.")


class ModelTerms(Document):
    """The model every site trains."""

    architecture: Literal["pileup_residual"] = "pileup_residual"
    initial_weights: Digest | None = Field(None, description="Content digest of the first global model.")
    trainable: Literal["all", "norm_and_head", "head"] = Field("all", description="Which tensors training may change.")

    def is_trainable(self, tensor: str) -> bool:
        """Say whether training may change the tensor of this name."""
        is_head = tensor.startswith("head.")
        is_norm = re.search(r"(^|\.)norm\d*\.", tensor) is not None
        return self.trainable == "all" or is_head or (self.trainable == "norm_and_head" and is_norm)

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


class AggregationTerms(Document):
    """How the aggregator turns admitted updates into the next global model."""

    strategy: Literal["fedavg", "fedmedian", "fedtrimmedavg"] = "fedavg"
    server_learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    minimum_sites: Annotated[int, Field(ge=1)] = 1
    deadline_minutes: Annotated[float, Field(gt=0)] = Field(
        10080.0, description="A round closes this long after it opened if minimum_sites have answered."
    )


class AdmissionTerms(Document):
    """What the aggregator refuses, beyond what follows from the other terms."""

    max_update_norm: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Ceiling on the L2 norm of an update; left out, it follows from clip norm, noise and steps.",
    )
    max_refusals: Annotated[int, Field(ge=1)] = Field(3, description="Refusals in a row that quarantine a site.")


class Study(Document):
    """The agreement all sites sign; without sites and initial weights until `fedcall study new` fills it."""

    name: Name
    coordinator: PublicKey | None = Field(None, description="Ed25519 key that signs this study and all receipts.")
    sites: tuple[Site, ...] = ()
    model: ModelTerms = ModelTerms()
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 4
    training: TrainingTerms = TrainingTerms()
    privacy: PrivacyTerms = PrivacyTerms()
    aggregation: AggregationTerms = AggregationTerms()
    admission: AdmissionTerms = AdmissionTerms()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [site.name for site in self.sites]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"site '{name}' is listed {names.count(name)} times; a site may appear once")
        for site in self.sites:
            units = self.units(site.name)
            if self.privacy.delta >= 1 / units:
                raise ValueError(
                    f"privacy.delta {self.privacy.delta:g} must be below 1/{units} = {1 / units:.2g},"
                    f" one over the declared {self.privacy.unit}s of site '{site.name}'"
                )
        if self.sites and self.aggregation.minimum_sites > len(self.sites):
            raise ValueError(
                f"aggregation.minimum_sites {self.aggregation.minimum_sites} exceeds the {len(self.sites)} sites listed"
            )
        return self

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
    def is_complete(self) -> bool:
        """Whether sites, coordinator and initial weights are named, so that the study can be signed."""
        return bool(self.sites and self.coordinator and self.model.initial_weights)


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
            raise FedcallError("study lacks sites, coordinator or initial weights; make it with 'fedcall study new'")
        return verify(signed, Study, study.coordinator)
    except FileNotFoundError:
        raise FedcallError(f"{path}: no such study; the coordinator makes it with 'fedcall study sign'") from None
    except FedcallError as error:
        raise FedcallError(f"{path}: {error}") from None
