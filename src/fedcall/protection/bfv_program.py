"""Threshold BFV by OpenFHE, as a program of its own: run by CPython 3.10, which has no fedcall (see `protection.bfv`).

Files are raw little-endian 64-bit numbers: the coefficients of polynomials in OpenFHE's evaluation form, each below its
modulus. OpenFHE's own serialised form, which holds lengths and pointers, is never read from a file: an object is made
here, written to memory, and only its coefficients are replaced. Every message is one line on stderr, with exit code 2.
"""

import importlib
import json
import os
import resource
import sys
from typing import Any

import numpy as np

PLAINTEXT_BITS = 42  # signed sums of MOST_SITES masked numbers of 32 bits each, so that no sum wraps
MOST_SITES = 1000
NOT_OPENED = 3  # the exit code of `fuse` if what it opens is no sum over so many sites
KEY_SHIFT = 190  # a key's noise (deviation 3.2) must stay below 128: a 2^190th of what decryption bears

PARTIAL_SHIFT = 4  # flooding noise must stay below a sixteenth of it, so that three holders' stay below a fifth
LARGEST_RING = 1 << 15
MEMORY_BYTES = 8 << 30


class InputFault(Exception):  # noqa: N818  (a line for people, not a programming error)
    """What is wrong with the input, in one line."""


class SumNotOpened(InputFault):
    """What partial decryptions open is not the sum that was ordered."""


class Scheme:
    """The one set of parameters: exact integers, n-of-n keys, noise flooding, 128 bits by OpenFHE's tables."""

    def __init__(self) -> None:
        self.fhe: Any = importlib.import_module("openfhe")
        fhe = self.fhe
        terms = fhe.CCParamsBFVRNS()
        terms.SetPlaintextModulus(_prime(1 << PLAINTEXT_BITS, 2 * LARGEST_RING))
        terms.SetMultiplicativeDepth(0)
        terms.SetMultipartyMode(fhe.NOISE_FLOODING_MULTIPARTY)
        terms.SetSecurityLevel(fhe.SecurityLevel.HEStd_128_quantum)
        terms.SetEvalAddCount(MOST_SITES)
        self.context = fhe.GenCryptoContext(terms)
        feature = fhe.PKESchemeFeature
        for one in (feature.PKE, feature.LEVELEDSHE, feature.KEYSWITCH, feature.MULTIPARTY):
            self.context.Enable(one)
        self.ring = int(self.context.GetRingDimension())
        self.plain = int(terms.GetPlaintextModulus())
        self.security, self.multiparty = terms.GetSecurityLevel().name, terms.GetMultipartyMode().name
        keys = self.context.KeyGen()
        self._public, self._secret = self._bytes(keys.publicKey), self._bytes(keys.secretKey)
        one = self.context.Encrypt(keys.publicKey, self.context.MakePackedPlaintext([1]))
        self._cipher = self._bytes(one)
        self._lead = self._bytes(self.context.MultipartyDecryptLead([one], keys.secretKey)[0])
        self._main = self._bytes(self.context.MultipartyDecryptMain([one], keys.secretKey)[0])
        self.moduli = [modulus for _, modulus in self._places(self._secret)]
        for form, count in ((self._public, 2), (self._cipher, 2), (self._lead, 1), (self._main, 1)):
            if [modulus for _, modulus in self._places(form)] != self.moduli * count:
                raise InputFault("this OpenFHE writes its polynomials in another way than 1.6.1; install that one")

    def parameters(self) -> dict[str, Any]:
        """Return what the report prints."""
        return {
            "security": self.security,
            "multiparty": self.multiparty,
            "ring_dimension": self.ring,
            "moduli": self.moduli,
            "plaintext_modulus": self.plain,
        }

    def public(self, share: np.ndarray, common: np.ndarray) -> Any:
        """Return the public key of polynomials b and a."""
        content = self._filled(self._public, np.stack([share, common]))
        return self.fhe.DeserializePublicKeyString(content, self.fhe.BINARY)

    def secret(self, values: np.ndarray) -> Any:
        """Return a secret key."""
        return self.fhe.DeserializePrivateKeyString(self._filled(self._secret, values[None]), self.fhe.BINARY)

    def cipher(self, values: np.ndarray) -> Any:
        """Return the ciphertext of two polynomials."""
        return self.fhe.DeserializeCiphertextString(self._filled(self._cipher, values), self.fhe.BINARY)

    def partial(self, values: np.ndarray, is_lead: bool) -> Any:
        """Return a partial decryption."""
        content = self._filled(self._lead if is_lead else self._main, values[None])
        return self.fhe.DeserializeCiphertextString(content, self.fhe.BINARY)

    def coefficients(self, thing: Any, elements: int) -> np.ndarray:
        """Return the polynomials of an OpenFHE object: uint64, shape (elements, moduli, ring)."""
        content = self._bytes(thing)
        places = self._places(content)
        if len(places) != elements * len(self.moduli):
            raise InputFault(f"{elements} polynomials expected, found {len(places) / len(self.moduli):g}")
        found = [np.frombuffer(content, "<u8", self.ring, place) for place, _ in places]
        return np.stack(found).reshape(elements, len(self.moduli), self.ring)

    def _bytes(self, thing: Any) -> bytes:
        return bytes(self.fhe.Serialize(thing, self.fhe.BINARY))

    def _filled(self, form: bytes, values: np.ndarray) -> bytes:
        content = bytearray(form)
        rows = values.reshape(-1, self.ring)
        for (place, _), row in zip(self._places(form), rows):  # noqa: B905
            content[place : place + 8 * self.ring] = row.astype("<u8").tobytes()
        return bytes(content)

    def _places(self, content: bytes) -> list[tuple[int, int]]:
        """Return where coefficients begin, and their modulus, which follows them: N, N numbers, a prime 1 mod 2 N."""
        found: list[tuple[int, int]] = []
        sign, start = self.ring.to_bytes(8, "little"), 0
        while True:
            start = content.find(sign, start)
            end = start + 8 + 8 * self.ring
            if start < 0 or end + 8 > len(content):
                return found
            modulus = int.from_bytes(content[end : end + 8], "little")
            is_one = 1 << 50 < modulus < 1 << 60 and modulus % (2 * self.ring) == 1
            if is_one and int(np.frombuffer(content, "<u8", self.ring, start + 8).max()) < modulus:
                found.append((start + 8, modulus))
                start = end
            else:
                start += 1

    def is_partial(self, made: np.ndarray, total: np.ndarray, secret: np.ndarray, place: str) -> bool:
        """Say whether a partial decryption of a sum is one with this key, up to the noise that hides the key.

        Holders whose partial decryptions all pass have together less noise than would change what is opened.

        Parameters
        ----------
        made, total, secret : array of uint64
            Shapes (blocks, moduli, ring), (blocks, 2, moduli, ring) and (moduli, ring).
        """
        return all(
            self._is_small(self._minus(self._minus(part, self._times(one[1], secret)), one[0] * (place == "lead")))
            for part, one in zip(made, total)  # noqa: B905
        )

    def is_key(self, secret: np.ndarray, share: np.ndarray, common: np.ndarray) -> bool:
        """Say whether a secret key is the one of a share of the public key: the one that is short, with short noise.

        Two such keys s and s' would make (s - s') times the common polynomial short, too: so it is for 2^(18 N) of its
        2^(240 N) values at most. Keys that are not short exist in numbers, and would open something else.
        """
        moduli = np.array(self.moduli, np.uint64)[:, None]
        noise = (share + self._times(common, secret)) % moduli
        return self._is_small(secret, KEY_SHIFT) and self._is_small(noise, KEY_SHIFT)

    def _times(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        moduli = np.array(self.moduli, object)[:, None]  # numbers of Python: products have 120 bits
        product: np.ndarray = ((one.astype(object) * other.astype(object)) % moduli).astype(np.uint64)
        return product

    def _minus(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        moduli = np.array(self.moduli, np.uint64)[:, None]
        difference: np.ndarray = (one + (moduli - other)) % moduli
        return difference

    def _is_small(self, polynomial: np.ndarray, shift: int = PARTIAL_SHIFT) -> bool:
        """Say whether all coefficients are so much smaller than what decryption takes for noise: 2^shift times."""
        larger = self._times(polynomial, np.array([[pow(2, shift, modulus)] for modulus in self.moduli], object))
        plain = self.context.MultipartyDecryptFusion([self.partial(larger, True)])
        plain.SetLength(self.ring)
        return not np.any(plain.GetPackedValue())

    def read(self, path: str, *shape: int) -> np.ndarray:
        """Return polynomials of a file: uint64, shape (blocks, *shape, moduli, ring), each below its modulus."""
        block = 8 * int(np.prod(shape, dtype=np.int64)) * len(self.moduli) * self.ring
        size = os.path.getsize(path)
        if size == 0 or size % block:
            raise InputFault(f"{path}: {size} bytes, a multiple of {block} expected")
        values = np.fromfile(path, "<u8").reshape(-1, *shape, len(self.moduli), self.ring)
        if (values >= np.array(self.moduli, np.uint64)[:, None]).any():
            raise InputFault(f"{path}: holds a number that is not below its modulus")
        return values


def parameters(output: str) -> None:
    """Write the parameters as JSON."""
    with open(output, "w") as file:
        json.dump(Scheme().parameters(), file)


def share(common: str, secret: str, output: str) -> None:
    """Make a holder's secret key and its share of the public key, over the polynomial common to all holders."""
    scheme = Scheme()
    empty = np.zeros((len(scheme.moduli), scheme.ring), np.uint64)
    pair = scheme.context.MultipartyKeyGen(scheme.public(empty, scheme.read(common)[0]), False, True)
    scheme.coefficients(pair.secretKey, 1).tofile(secret)
    scheme.coefficients(pair.publicKey, 2)[0].tofile(output)


def encrypt(key: str, values: str, output: str) -> None:
    """Encrypt whole numbers; the last slot of each block holds a one, so that a sum holds the number of sites."""
    scheme = Scheme()
    public, numbers = scheme.public(*scheme.read(key, 2)[0]), np.fromfile(values, "<i8")
    if numbers.size == 0 or np.abs(numbers).max() > scheme.plain // 2:
        raise InputFault(f"{values}: one number or more expected, none beyond {scheme.plain // 2}")
    with open(output, "wb") as file:
        for start in range(0, numbers.size, scheme.ring - 1):
            slots = np.zeros(scheme.ring, np.int64)
            piece = numbers[start : start + scheme.ring - 1]
            slots[: piece.size], slots[-1] = piece, 1
            made = scheme.context.Encrypt(public, scheme.context.MakePackedPlaintext(slots.tolist()))
            scheme.coefficients(made, 2).tofile(file)


def partial(total: str, secret: str, place: str, output: str) -> None:
    """Decrypt a sum partially; one holder, by agreement, leads. What a fault of the machine made is never written."""
    scheme = Scheme()
    numbers, sums = scheme.read(secret)[0], scheme.read(total, 2)
    key, made = scheme.secret(numbers), []
    for one in sums:
        cipher = scheme.cipher(one)
        decrypt = scheme.context.MultipartyDecryptLead if place == "lead" else scheme.context.MultipartyDecryptMain
        made.append(scheme.coefficients(decrypt([cipher], key)[0], 1)[0])
    if not scheme.is_partial(np.stack(made), sums, numbers, place):
        raise InputFault(
            "what was computed is no partial decryption of the sum: a fault of this machine; nothing is given"
        )
    np.stack(made).tofile(output)


def verify(total: str, secret: str, place: str, share: str, common: str, partial: str, output: str) -> None:
    """Write whether a partial decryption is one of a sum: "right", "another key" or "wrong"."""
    scheme = Scheme()
    numbers, sums, made = scheme.read(secret)[0], scheme.read(total, 2), scheme.read(partial)
    found = "right"
    if not scheme.is_key(numbers, scheme.read(share)[0], scheme.read(common)[0]):
        found = "another key"
    elif len(made) != len(sums) or not scheme.is_partial(made, sums, numbers, place):
        found = "wrong"
    with open(output, "w") as file:
        file.write(found)


def fuse(output: str, values: str, sites: str, *paths: str) -> None:
    """Open a sum from all holders' partial decryptions, the leader's first; the canary holds the number of sites."""
    scheme, count = Scheme(), int(values)
    parts = [scheme.read(path) for path in paths]
    blocks = -(-count // (scheme.ring - 1))
    if any(len(one) != blocks for one in parts):
        raise InputFault(f"{blocks} blocks expected in each partial decryption")
    opened, spare = [], blocks * (scheme.ring - 1) - count
    for number in range(blocks):
        pieces = [scheme.partial(one[number], place == 0) for place, one in enumerate(parts)]
        plain = scheme.context.MultipartyDecryptFusion(pieces)
        plain.SetLength(scheme.ring)
        slots = np.array(plain.GetPackedValue(), np.int64)
        if slots.size != scheme.ring or slots[-1] != int(sites):
            raise SumNotOpened(
                f"the partial decryptions do not open a sum over {sites} sites: one is missing, is of another sum,"
                " or is damaged"
            )
        opened.append(slots[:-1])
    total = np.concatenate(opened)
    if spare and total[-spare:].any():
        raise SumNotOpened(
            f"the sum over {sites} sites holds more than {count} numbers: a ciphertext was tampered with"
        )
    total[:count].astype("<i8").tofile(output)


def _prime(above: int, step: int) -> int:
    """Return the first prime above a number that is 1 modulo `step`, so that slots exist."""
    candidate = (above // step + 1) * step + 1
    while not _is_prime(candidate):
        candidate += step
    return candidate


def _is_prime(number: int) -> bool:
    """Miller and Rabin with the bases that are proven for every number below 3.3e24 (Sorenson and Webster 2017)."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


COMMANDS = {one.__name__: one for one in (parameters, share, encrypt, partial, verify, fuse)}


def main() -> None:
    """Run one command; a fault of the input is one line and exit code 2."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    os.umask(0o077)
    try:
        COMMANDS[sys.argv[1]](*sys.argv[2:])
    except SumNotOpened as fault:
        print(str(fault), file=sys.stderr)
        sys.exit(NOT_OPENED)
    except (InputFault, OSError, MemoryError, RuntimeError, ValueError, ImportError) as fault:
        print(str(fault).replace("\n", " ")[:500] or type(fault).__name__, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
