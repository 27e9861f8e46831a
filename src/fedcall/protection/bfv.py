"""Encrypted sums: keys in shares, ciphertexts, their sum, its partial decryptions, and the sum that these open.

OpenFHE's wheel runs on CPython 3.10 alone, so it lives in an environment of its own (`make encryption`) behind files:
each step is a child process (`bfv_program`), whose crash is an error here and nothing more. What crosses is the
coefficients of polynomials, checked to be below their moduli before anything native sees them. Adding is done here.

The plaintext modulus has 42 bits: sums of a thousand masked numbers of 32 bits fit, so none wraps.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from fedcall.errors import FedcallError
from fedcall.protection import bfv_program
from fedcall.shown import shown

HOW_TO_INSTALL = (
    "encryption needs OpenFHE in an environment of its own, with CPython 3.10: run 'make encryption' in fedcall's"
    " folder, or set FEDCALL_ENCRYPTION_PYTHON to a python3.10 that has openfhe 1.6.1.0.22.4 and numpy"
)
MOST_SITES = bfv_program.MOST_SITES
SCHEME = (
    "threshold BFV by OpenFHE 1.6.1, keys n of n, noise flooding, 128 bits against quantum attacks (HEStd_128_quantum):"
    " ring dimension 16384, ciphertext modulus of 240 bits, plaintext modulus 4398047232001"
)
"""The one set of parameters in words, for reports that are made where there is no OpenFHE; a test holds it to them."""
_SECONDS = 3600.0


class NotOpened(FedcallError):  # noqa: N818  (an outcome)
    """Partial decryptions do not open the sum that was ordered; nothing will make them."""


class ProgramFailed(FedcallError):  # noqa: N818
    """OpenFHE's process died or found no memory; trying again may help."""


@dataclass(frozen=True)
class Parameters:
    """The scheme's parameters, as OpenFHE's tables give them for 128 bits."""

    security: str
    multiparty: str
    ring_dimension: int
    moduli: tuple[int, ...]
    plaintext_modulus: int

    @property
    def modulus_bits(self) -> int:
        """Bits of the ciphertexts' modulus."""
        return int(np.prod([float(one) for one in self.moduli])).bit_length()

    @property
    def digest(self) -> str:
        """SHA-256 of the parameters."""
        text = json.dumps([self.security, self.ring_dimension, list(self.moduli), self.plaintext_modulus])
        return hashlib.sha256(text.encode()).hexdigest()

    def blocks(self, values: int) -> int:
        """Return how many ciphertexts hold so many values; a slot of each is the canary's."""
        return -(-values // (self.ring_dimension - 1))

    def polynomial_bytes(self, polynomials: int) -> int:
        """Return the size of so many polynomials."""
        return 8 * polynomials * len(self.moduli) * self.ring_dimension

    def ciphertext_bytes(self, values: int) -> int:
        """Return the size of one site's ciphertexts."""
        return self.polynomial_bytes(2 * self.blocks(values))

    def partial_bytes(self, values: int) -> int:
        """Return the size of one holder's partial decryption."""
        return self.polynomial_bytes(self.blocks(values))

    def sentence(self) -> str:
        """Return the parameters in words."""
        return (
            f"BFV (OpenFHE), security {self.security}: ring dimension {self.ring_dimension}, ciphertext modulus of"
            f" {self.modulus_bits} bits, plaintext modulus {self.plaintext_modulus}, {self.multiparty}"
        )


@dataclass(frozen=True)
class HoldersPart:
    """A holder's part of a joint key: secret key, the share that follows from it, label, whether it leads."""

    secret: bytes
    share: bytes
    label: str
    leads: bool


def find_interpreter() -> Path | None:
    """Return the Python of the environment for encryption, or None if there is none.

    First comes the one that is named, then that of a rule's own environment (`snakemake --sdm conda`).
    """
    named = os.environ.get("FEDCALL_ENCRYPTION_PYTHON")
    if named is not None:
        return Path(named) if Path(named).is_file() else None
    active = Path(os.environ.get("CONDA_PREFIX", os.devnull))
    if any((active / "lib/python3.10/site-packages").glob("openfhe*")):
        return active / "bin" / "python"
    places = (Path.cwd(), Path(sys.prefix).parent, Path(__file__).parents[3])
    found = (place / ".venv-encryption" / "bin" / "python" for place in places)
    return next((path for path in found if path.is_file()), None)


@lru_cache(maxsize=1)
def parameters() -> Parameters:
    """Return the scheme's parameters.

    Raises
    ------
    FedcallError
        If there is no environment for encryption; says what to install.
    """
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        path = Path(folder) / "parameters.json"
        _run("parameters", path)
        found = json.loads(path.read_bytes())
    words = found["security"], found["multiparty"]
    return Parameters(*words, found["ring_dimension"], tuple(found["moduli"]), found["plaintext_modulus"])


def common_polynomial(label: str) -> np.ndarray:
    """Return the polynomial that all holders' shares are made over: uint64, shape (moduli, ring).

    It follows from the label by SHAKE-256, uniform below each modulus, so that nobody can have chosen it.
    """
    terms = parameters()
    rows = [_uniform(label, modulus, terms.ring_dimension) for modulus in terms.moduli]
    return np.stack(rows)


def make_share(label: str) -> tuple[bytes, bytes]:
    """Return a new secret key, and its share of the public key, over the common polynomial of a label."""
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        common, secret, share = (Path(folder) / name for name in ("common", "secret", "share"))
        common_polynomial(label).astype("<u8").tofile(common)
        _run("share", common, secret, share)
        return secret.read_bytes(), share.read_bytes()


def joint_key(label: str, shares: Sequence[bytes]) -> bytes:
    """Return the public key that only all holders of these shares together can decrypt under."""
    total = add((share for share in shares), 1)
    return total + common_polynomial(label).astype("<u8").tobytes()


def encrypt(key: bytes, values: np.ndarray) -> bytes:
    """Return the ciphertexts of whole numbers (int32 or int64, one dimension) under a joint key."""
    check_polynomials(key, 2, "the joint key")
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        public, clear, output = (Path(folder) / name for name in ("key", "values", "output"))
        public.write_bytes(key)
        values.astype("<i8").tofile(clear)
        _run("encrypt", public, clear, output)
        return output.read_bytes()


def add(ciphertexts: Iterable[bytes], polynomials: int) -> bytes:
    """Return the sum of ciphertexts of so many polynomials each; holds two of them in memory at a time.

    Raises
    ------
    FedcallError
        If one is not of this size, or holds a number that is not below its modulus; the message has its place.
    """
    terms = parameters()
    moduli = np.array(terms.moduli, np.uint64)[:, None]
    total: np.ndarray | None = None
    for place, content in enumerate(ciphertexts, start=1):
        one = check_polynomials(content, polynomials, f"ciphertext {place}")
        if total is None:
            total = one.copy()
            continue
        total += one
        np.subtract(total, moduli, out=total, where=total >= moduli)
    if total is None:
        raise FedcallError("a sum needs one ciphertext or more")
    return total.astype("<u8", copy=False).tobytes()


def partial(total: bytes, secret: bytes, is_lead: bool) -> bytes:
    """Return a holder's partial decryption of a sum. Fresh noise hides the key: never make two of one sum."""
    terms = parameters()
    check_polynomials(secret, 1, "the secret key")
    if not total or len(total) % terms.polynomial_bytes(2):
        raise FedcallError("the sum is not one of ciphertexts")
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        sums, key, output = (Path(folder) / name for name in ("sum", "key", "output"))
        sums.write_bytes(total)
        key.touch(mode=0o600)
        key.write_bytes(secret)
        _run("partial", sums, key, "lead" if is_lead else "main", output)
        return output.read_bytes()


def verify_partial(made: bytes, total: bytes, holder: HoldersPart) -> Literal["right", "another key", "wrong"]:
    """Say whether a partial decryption is one of a sum, made with the secret key of a holder's share.

    Only who has that key can say it: what is left of a partial decryption without its noise would tell the key. If
    those of all holders of a sum are right, and it does not open, a ciphertext in it was none.
    """
    terms = parameters()
    check_polynomials(holder.secret, 1, "the secret key")
    check_polynomials(holder.share, 1, "the holder's share")
    if not total or len(total) % terms.polynomial_bytes(2):
        raise FedcallError("the sum is not one of ciphertexts")
    check_polynomials(made, len(total) // terms.polynomial_bytes(2), "the partial decryption")
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        sums, key, share, common, given, output = (Path(folder) / str(place) for place in range(6))
        sums.write_bytes(total)
        key.touch(mode=0o600)
        key.write_bytes(holder.secret)
        share.write_bytes(holder.share)
        common_polynomial(holder.label).astype("<u8").tofile(common)
        given.write_bytes(made)
        _run("verify", sums, key, "lead" if holder.leads else "main", share, common, given, output)
        found = output.read_text()
    return "right" if found == "right" else "another key" if found == "another key" else "wrong"


def fuse(partials: Sequence[bytes], values: int, sites: int) -> np.ndarray:
    """Return the sum that all holders' partial decryptions open, the leader's first: int64, shape (values,).

    Raises
    ------
    NotOpened
        If one is missing, damaged, or of another sum: the canary does not hold the number of sites.
    """
    blocks = parameters().blocks(values)
    for place, content in enumerate(partials, start=1):
        check_polynomials(content, blocks, f"partial decryption {place}")
    with tempfile.TemporaryDirectory(prefix="fedcall-") as folder:
        output, paths = Path(folder) / "opened", []
        for place, content in enumerate(partials):
            paths.append(Path(folder) / str(place))
            paths[-1].write_bytes(content)
        _run("fuse", output, values, sites, *paths)
        return np.fromfile(output, "<i8")


def check_polynomials(content: bytes, polynomials: int, what: str) -> np.ndarray:
    """Return so many polynomials: uint64, shape (polynomials, moduli, ring); a view, each number below its modulus."""
    terms = parameters()
    size = terms.polynomial_bytes(polynomials)
    if len(content) != size:
        raise FedcallError(f"{what}: {len(content)} bytes, {size} expected")
    found = np.frombuffer(content, "<u8").reshape(polynomials, len(terms.moduli), terms.ring_dimension)
    if (found >= np.array(terms.moduli, np.uint64)[:, None]).any():
        raise FedcallError(f"{what}: holds a number that is not below its modulus")
    return found


def _uniform(label: str, modulus: int, count: int) -> np.ndarray:
    """Return numbers uniform below a modulus of 60 bits: 60 bits of SHAKE-256 each, those too large left out."""
    seed = f"fedcall common polynomial v1|{len(label)}:{label}|{modulus}".encode()
    drawn = count
    while True:
        drawn += 4096
        words = np.frombuffer(hashlib.shake_256(seed).digest(8 * drawn), "<u8") >> np.uint64(64 - modulus.bit_length())
        kept = words[words < modulus]
        if kept.size >= count:
            return kept[:count]


def _run(command: str, *arguments: object) -> None:
    interpreter = find_interpreter()
    if interpreter is None:
        raise FedcallError(HOW_TO_INSTALL)
    environment = {"PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"}
    try:
        ran = subprocess.run(
            [interpreter, "-I", bfv_program.__file__, command, *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramFailed(f"OpenFHE failed at '{command}': {error}") from None
    if ran.returncode == 0:
        return
    lines = ran.stderr.decode(errors="replace").strip().splitlines()
    if ran.returncode in (2, bfv_program.NOT_OPENED) and lines:
        kind = NotOpened if ran.returncode == bfv_program.NOT_OPENED else FedcallError
        raise kind(shown(lines[-1], 500))
    raise ProgramFailed(
        f"OpenFHE failed at '{command}' (exit {ran.returncode}): {shown(lines[-1], 300) if lines else ''}"
    )
