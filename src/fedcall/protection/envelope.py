"""The envelope of an update: what a claim says of how the update is hidden. One class for each mode that hides it."""

from typing import Annotated, Literal

from pydantic import Field

from fedcall.documents import Document


class SealedSeed(Document):
    """The seed of one mask, readable by one helper only."""

    helper: Annotated[str, Field(max_length=64)]
    seed: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/=]{1,512}$")] = Field(
        description="HPKE (X25519, HKDF-SHA256, AES-256-GCM) to the helper's key: one-time key and sealed seed, base64."
    )


class MaskedEnvelope(Document):
    """The update is a vector of whole numbers plus one mask for each helper, modulo 2^32."""

    kind: Literal["masked"] = "masked"
    values: Annotated[int, Field(ge=1, le=1 << 28)] = Field(description="Numbers in the update.")
    seeds: Annotated[tuple[SealedSeed, ...], Field(min_length=1, max_length=64)]


class EncryptedEnvelope(Document):
    """The update is the ciphertexts of a masked vector: all holders of a key together decrypt a sum, then unmask it."""

    kind: Literal["encrypted"]
    values: Annotated[int, Field(ge=1, le=1 << 28)] = Field(description="Numbers in the vector.")
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="Digest of the joint key's document.")
    seeds: Annotated[tuple[SealedSeed, ...], Field(min_length=1, max_length=64)]


Envelope = MaskedEnvelope | EncryptedEnvelope
"""How an update is hidden; told apart by `kind`."""
