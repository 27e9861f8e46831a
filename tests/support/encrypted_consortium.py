"""A consortium of encrypted updates: as a masked one, with two key holders that made a joint key."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fedcall.keys import read_secret
from fedcall.protection import bfv
from fedcall.protection.ceremony import commit, gather, read_joint_key, reveal, write_shares
from fedcall.protection.encrypting import encrypt_update
from fedcall.protection.helper_keys import create_helper_keys
from fedcall.protection.masks import Release
from fedcall.weights import Weights, weights_bytes
from masked_consortium import MaskedConsortium, make_masked_consortium

HOLDERS = ("notary", "ethics")
needs_openfhe = pytest.mark.skipif(bfv.find_interpreter() is None, reason=bfv.HOW_TO_INSTALL)


@dataclass(frozen=True)
class EncryptedConsortium(MaskedConsortium):
    """Sites encrypt what they masked."""

    def answer(
        self, site: str, number: int, base: Weights, /, vector: dict[str, np.ndarray] | None = None, **changes
    ) -> tuple[bytes, bytes]:
        """Return the signed claim and the encrypted update of a site, with `changes` made to the claim."""
        hidden = self.vector(site, number, base) if vector is None else vector
        terms = self.study.protection
        helpers = {helper.name: helper.hpke_key for helper in terms.helpers}
        release = Release(self.study.digest, site, number, "0" * 64)
        key = read_joint_key(terms.encryption, terms.signing_keys, self.study_path)
        made = encrypt_update(hidden, release, read_secret(self.keys(site)), helpers, key)
        claim = self.claim(site, number, base.digest, made.tensors, **{"envelope": made.envelope, **changes})
        metadata = {"study": self.study.digest, "round": str(number), "base": base.digest}
        return self.sign_claim(claim, site), weights_bytes(made.tensors, metadata)


def make_encrypted_consortium(folder: Path, rounds: int = 2, **terms) -> EncryptedConsortium:
    """Make a consortium of three sites and two key holders, whose ceremony is done."""
    shares = make_key(folder)
    more = {"mode": "encrypted", "encryption": shares[0].model_dump()}
    made = make_masked_consortium(folder, rounds, helpers=HOLDERS, more_protection=more, **terms)
    write_shares(made.study_path, shares[1])
    return EncryptedConsortium(made.folder, made.study)


def make_key(folder: Path):
    """Return the document of a joint key of two holders with keys in `folder`, and its shares."""
    for name in HOLDERS:
        create_helper_keys(folder / "keys" / name, name)
    files = [folder / "keys" / name / "helper.json" for name in HOLDERS]
    for name in HOLDERS:
        commit(folder / "keys" / name, "pilot", folder / "ceremony")
    for name in HOLDERS:
        reveal(folder / "keys" / name, "pilot", folder / "ceremony", files)
    return gather("pilot", folder / "ceremony", files)


def copy_consortium(made: EncryptedConsortium, folder: Path) -> EncryptedConsortium:
    """Return a copy, so that a ceremony is made once for many tests."""
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    return EncryptedConsortium(folder, made.study)
