"""Who could see one hospital's update: the modes of protection, and what each of them needs."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fedcall.attestation.policy import EvidencePolicy
from fedcall.documents import Document, GrownDocument
from fedcall.errors import FedcallError
from fedcall.protection.ceremony import JointKey, check_joint_key
from fedcall.study.names import Name, PublicKey

Mode = Literal["plain", "masked", "sealed", "encrypted"]

AVAILABLE: tuple[Mode, ...] = ("plain", "masked", "sealed", "encrypted")
"""Modes that this version has; the others have names, so that terms and documents can speak of them."""

OPENING_SUMS: tuple[Mode, ...] = ("masked", "encrypted")
"""Modes in which sites send vectors of which only sums over sites are opened."""


class Helper(Document):
    """An organisation beside the coordinator that takes the masks off sums, and off nothing else."""

    name: Name
    public_key: PublicKey = Field(description="Ed25519 key that signs the helper's answers, base64.")
    node_key: str = Field(description="ECDSA P-384 key of the helper's Flower node, OpenSSH form.")
    hpke_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43,4096}={0,2}$")] = Field(
        description="Key that sites seal their masks' seeds to (HPKE), base64."
    )


class Protection(GrownDocument):
    """What hides one site's update from everybody but the site."""

    NEWER: ClassVar[tuple[str, ...]] = ("evidence", "encryption")

    mode: Mode = Field(
        "plain",
        description="plain: the coordinator sees every update; masked: only sums over sites are ever opened; sealed:"
        " only an attested enclave sees updates, and only averages leave it; encrypted: masked, and encrypted to two or"
        " three key holders, too.",
    )
    minimum_sites: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="No sum or average over fewer sites is ever opened; pooled noise is sized for so many.",
    )
    tolerated_sites: Annotated[int, Field(ge=0)] = Field(
        0, description="Sites whose shares of pooled noise are not counted on: they may leave noise out, or tell it."
    )
    helpers: tuple[Helper, ...] = Field(
        (), description="Of mode masked; one honest helper is enough. Of mode encrypted: the two or three key holders."
    )
    evidence: EvidencePolicy | None = Field(
        None, description="Of mode sealed: platforms, images and firmware that a site may seal its update to."
    )
    encryption: JointKey | None = Field(None, description="Of mode encrypted: the holders' joint key.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode not in AVAILABLE:
            raise ValueError(
                f"protection mode '{self.mode}' is not available in this version; choose {' or '.join(AVAILABLE)}"
            )
        if self.mode == "plain":
            if self != Protection.model_construct():
                raise ValueError(
                    "minimum_sites, tolerated_sites, helpers and evidence belong to the other protection modes; leave"
                    " them out for mode 'plain'"
                )
            return self
        if self.minimum_sites is None:
            raise ValueError(f"protection mode '{self.mode}' needs minimum_sites, 2 or more")
        if self.tolerated_sites >= self.minimum_sites:
            raise ValueError(
                f"tolerated_sites {self.tolerated_sites} leaves no share of the noise that counts: it must be below"
                f" minimum_sites {self.minimum_sites}"
            )
        if self.mode == "sealed" and (self.helpers or self.tolerated_sites):
            raise ValueError(
                "helpers and tolerated_sites belong to protection mode 'masked': in mode 'sealed' nobody helps, and"
                " every update carries its own noise; leave them out"
            )
        if self.evidence is not None and self.evidence.tdx is not None:
            raise ValueError(
                "evidence.tdx: Intel TDX gives an aggregator no key that comes back after a restart, so it could not"
                " read its own state again; name snp or sgx"
            )
        if self.mode != "sealed" and self.evidence is not None:
            raise ValueError(f"evidence belongs to protection mode 'sealed'; leave it out for mode '{self.mode}'")
        names = [helper.name for helper in self.helpers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"helper '{name}' is listed {names.count(name)} times; a helper may appear once")
        if self.encryption is not None:
            if self.mode != "encrypted":
                raise ValueError("protection.encryption belongs to protection mode 'encrypted'; leave it out")
            try:
                check_joint_key(self.encryption, self.signing_keys)
            except FedcallError as error:
                raise ValueError(f"protection.encryption: {error}") from None
        return self

    @property
    def lacks(self) -> str:
        """What must be named before a study with this protection can be signed; empty if nothing is missing."""
        if self.mode == "sealed":
            if self.evidence is None:
                return "protection.evidence, by which protection mode 'sealed' tells an enclave from anything else"
            return ""
        if self.mode != "plain" and not self.helpers:
            return (
                f"helpers, of which protection mode '{self.mode}' needs {'two' if self.is_encrypted else 'one'} or more"
            )
        if self.is_encrypted and self.encryption is None:
            return "its holders' joint key, which protection mode 'encrypted' needs ('fedcall encryption keygen')"
        return ""

    @property
    def is_encrypted(self) -> bool:
        """Whether updates are encrypted to key holders."""
        return self.mode == "encrypted"

    @property
    def signing_keys(self) -> dict[str, str]:
        """Each helper's public signing key by its name."""
        return {helper.name: helper.public_key for helper in self.helpers}

    @property
    def leader(self) -> str:
        """The key holder whose partial decryption is the first: the first by name."""
        return min(helper.name for helper in self.helpers)

    @property
    def shares(self) -> int:
        """Number of shares of the noise that are counted on in every sum that is opened."""
        return (self.minimum_sites or 1) - self.tolerated_sites
