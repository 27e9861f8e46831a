"""Encrypted sums are exact; what is damaged, missing or another's is an error."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fedcall.errors import FedcallError
from fedcall.protection import bfv

needs_openfhe = pytest.mark.skipif(bfv.find_interpreter() is None, reason=bfv.HOW_TO_INSTALL)


@pytest.fixture(scope="module")
def holders():
    """Return the secrets of two holders and their joint key."""
    made = [bfv.make_share("test") for _ in range(2)]
    return [secret for secret, _ in made], bfv.joint_key("test", [share for _, share in made])


def opened(holders, ciphertexts, values, sites):
    secrets, _ = holders
    total = bfv.add(ciphertexts, 2 * bfv.parameters().blocks(values))
    return bfv.fuse([bfv.partial(total, one, place == 0) for place, one in enumerate(secrets)], values, sites)


@needs_openfhe
@pytest.mark.parametrize(("sites", "values"), [(3, 24_273), (10, 500), (50, 500)])
def test_fuse__bit_for_bit_the_sum_in_the_clear(holders, sites, values):
    generator, limit = np.random.default_rng(sites), 2**31 // sites
    vectors = [generator.integers(-limit, limit, values) for _ in range(3)]
    vectors[0][:2] = limit - 1, -limit
    ciphertexts = [bfv.encrypt(holders[1], vector) for vector in vectors]
    chosen = [number % 3 for number in range(sites)]
    found = opened(holders, (ciphertexts[one] for one in chosen), values, sites)
    assert np.array_equal(found, sum(vectors[one] for one in chosen))


@needs_openfhe
def test_fuse__a_partial_that_is_missing_wrong_or_of_another_sum_is_an_error(holders):
    secrets, key = holders
    first, second = (bfv.encrypt(key, np.arange(20) + number) for number in range(2))
    total = bfv.add([first, second], 2)
    lead, main = bfv.partial(total, secrets[0], True), bfv.partial(total, secrets[1], False)
    assert np.array_equal(bfv.fuse([lead, main], 20, 2), 2 * np.arange(20) + 1)
    other = bfv.partial(bfv.add([first, first], 2), secrets[1], False)
    flipped = bytearray(main)
    flipped[80] ^= 1
    for partials, sites in [
        ([lead], 2),
        ([main], 2),
        ([lead, other], 2),
        ([lead, bytes(flipped)], 2),
        ([lead, main], 3),
    ]:
        with pytest.raises(FedcallError, match=f"do not open a sum over {sites} sites"):
            bfv.fuse(partials, 20, sites)
    with pytest.raises(FedcallError, match="bytes"):
        bfv.fuse([lead, main[:-8]], 20, 2)
    with pytest.raises(FedcallError, match="holds more than 19 numbers"):  # a slot is used that should be empty
        bfv.fuse([lead, main], 19, 2)


@needs_openfhe
def test_encrypt__two_ciphertexts_of_one_vector_have_nothing_in_common_and_hide_it(holders):
    one, two = (np.frombuffer(bfv.encrypt(holders[1], np.full(9, 5)), "<u8") for _ in range(2))
    assert (one != two).mean() > 0.999
    with pytest.raises(FedcallError, match="none beyond"):
        bfv.encrypt(holders[1], np.array([2**42]))


@needs_openfhe
def test_add__two_thousand_damaged_ciphertexts_are_refused_or_harmless(holders):
    """Only numbers below their modulus ever reach native code; the shape is known, so there is nothing to parse."""
    whole, generator = bfv.encrypt(holders[1], np.arange(7)), np.random.default_rng(1)
    moduli = np.array(bfv.parameters().moduli, np.uint64)[:, None]
    refused = 0
    for number in range(2000):
        content = bytearray(whole)
        if number % 4 == 0:
            content = content[: generator.integers(len(content))]
        elif number % 4 == 1:
            content += generator.bytes(int(generator.integers(1, 64)))
        else:
            for place in generator.integers(len(content), size=3):
                content[place] = generator.integers(256)
        try:
            numbers = bfv.check_polynomials(bytes(content), 2, "ciphertext 1")
        except FedcallError:
            refused += 1
            continue
        assert (numbers < moduli).all()
    assert refused > 1000
    damaged = bytearray(whole)
    damaged[100] ^= 1
    with pytest.raises(FedcallError, match="do not open"):
        opened(holders, [bytes(damaged), whole], 7, 2)


@needs_openfhe
def test_parameters__are_those_of_128_bits():
    found = bfv.parameters()
    assert (found.security, found.multiparty) == ("HEStd_128_quantum", "NOISE_FLOODING_MULTIPARTY")  # as OpenFHE says
    # Homomorphic Encryption Standard (2018), table 2 (ternary secrets, quantum attacks): 411 and 202.
    assert {16384: 411, 8192: 202}[found.ring_dimension] >= found.modulus_bits
    for told in (found.security, f"dimension {found.ring_dimension},", f"{found.modulus_bits} bits,"):
        assert told in bfv.SCHEME
    assert bfv.SCHEME.endswith(f" {found.plaintext_modulus}")
    assert found.plaintext_modulus > 2 * bfv.MOST_SITES * 2**31


def test_find_interpreter__the_one_named_then_a_rules_own_environment_then_that_of_this_checkout(monkeypatch, tmp_path):
    def made(path: Path) -> Path:
        path.parent.mkdir(parents=True)
        path.touch()
        return path

    for name in ("FEDCALL_ENCRYPTION_PYTHON", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    here = made(tmp_path / ".venv-encryption/bin/python")
    assert bfv.find_interpreter() == here
    active = made(tmp_path / "conda/bin/python")
    monkeypatch.setenv("CONDA_PREFIX", str(active.parents[1]))
    assert bfv.find_interpreter() == here  # an environment without OpenFHE: that of another rule, or the user's own
    made(tmp_path / "conda/lib/python3.10/site-packages/openfhe/__init__.py")
    assert bfv.find_interpreter() == active
    named = made(tmp_path / "named/python3.10")
    monkeypatch.setenv("FEDCALL_ENCRYPTION_PYTHON", str(named))
    assert bfv.find_interpreter() == named
    named.unlink()
    assert bfv.find_interpreter() is None  # somebody who names one means no other


@needs_openfhe
def test_encrypt__in_a_rules_own_environment(holders, monkeypatch, tmp_path):
    """An environment as conda lays it out, with the packages of this one: only `CONDA_PREFIX` leads there."""
    here = bfv.find_interpreter()
    packages = here.parents[1] / "lib/python3.10/site-packages"
    prefix = tmp_path / "prefix"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib/python3.10").mkdir(parents=True)
    (prefix / "lib/python3.10/site-packages").symlink_to(packages)
    told = prefix / "told"
    (prefix / "bin/python").write_text(f'#!/bin/sh\necho "$2" >> {told}\nexec {here} "$@"\n')
    (prefix / "bin/python").chmod(0o755)
    monkeypatch.delenv("FEDCALL_ENCRYPTION_PYTHON", raising=False)
    monkeypatch.setenv("CONDA_PREFIX", str(prefix))
    vector = np.arange(9)
    assert np.array_equal(opened(holders, [bfv.encrypt(holders[1], vector)], 9, 1), vector)
    assert told.read_text().splitlines() == [bfv.bfv_program.__file__] * 4  # encrypt, two partials, fuse


@needs_openfhe
def test_program__takes_no_more_memory_than_it_may():
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import bfv_program as p\n"
        "p.COMMANDS['grow'] = lambda: bytearray(p.MEMORY_BYTES)\n"
        "p.main()\n"
    )
    command = [bfv.find_interpreter(), "-I", "-c", script, Path(bfv.__file__).parent, "grow"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (2, "MemoryError\n")


def test_parameters__without_openfhe_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDCALL_ENCRYPTION_PYTHON", str(tmp_path / "none"))
    bfv.parameters.cache_clear()
    with pytest.raises(FedcallError, match="make encryption"):
        bfv.parameters()


@needs_openfhe
def test_parameters__a_child_that_dies_is_an_error_and_nothing_more(monkeypatch, tmp_path):
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nkill -SEGV $$\n")
    dying.chmod(0o755)
    monkeypatch.setenv("FEDCALL_ENCRYPTION_PYTHON", str(dying))
    bfv.parameters.cache_clear()
    with pytest.raises(FedcallError, match="OpenFHE failed"):
        bfv.parameters()


@needs_openfhe
def test_a_hospital_that_subtracts_anothers_ciphertext_learns_nothing_through_the_masks(holders):
    """The reason why what is encrypted is masked: by BFV alone, a sum over three opens the update of one."""
    generator = np.random.default_rng(5)
    north, south = (generator.integers(-1000, 1000, 50) for _ in range(2))

    def crafted(other: bytes) -> bytes:
        """Minus another's ciphertext, plus three in the canary's slot: the sum over three sites looks whole."""
        moduli = np.array(bfv.parameters().moduli, np.uint64)[:, None]
        minus = (moduli - np.frombuffer(other, "<u8").reshape(2, len(moduli), -1)) % moduli
        # Two more encryptions of zero bring the canary from -1 back to 1.
        zeros = [bfv.encrypt(holders[1], np.zeros(50, np.int64)) for _ in range(2)]
        return bfv.add([minus.astype("<u8").tobytes(), *zeros], 2)

    first, second = bfv.encrypt(holders[1], north), bfv.encrypt(holders[1], south)
    assert np.array_equal(opened(holders, [first, second, crafted(first)], 50, 3), south)
    masks = generator.integers(0, 2**32, (2, 50))
    masked = [bfv.encrypt(holders[1], ((one + mask) % 2**32)) for one, mask in zip((north, south), masks, strict=True)]
    found = opened(holders, [*masked, crafted(masked[0])], 50, 3)
    # The helpers tell the sum of all masks, those of the made-up update included, which cannot be minus those of north.
    assert not np.any((found - masks.sum(0)) % 2**32 == south % 2**32)


@needs_openfhe
def test_a_made_up_ciphertext_opens_what_follows_from_the_joint_key_and_masks_are_untouched_by_it(holders, tmp_path):
    """The second reason: (0, D u) in a sum opens u s besides, whatever else is summed; D is the unit of plaintexts."""
    terms = bfv.parameters()
    unit = math.prod(terms.moduli) // terms.plaintext_modulus

    def slots(vector: np.ndarray, times: int) -> np.ndarray:
        """Return all slots of a sum with `times` (0, D) in it, as a coordinator sees them who checks nothing."""
        total = np.frombuffer(bfv.encrypt(holders[1], vector), "<u8").reshape(2, len(terms.moduli), -1).copy()
        for row, modulus in zip(total[1], terms.moduli, strict=True):  # a constant is itself in evaluation form
            row[:] = [(int(one) + times * unit) % modulus for one in row]
        parts = []
        for place, secret in enumerate(holders[0]):
            parts.append(tmp_path / str(place))
            parts[-1].write_bytes(bfv.partial(total.tobytes(), secret, place == 0))
        script = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "import bfv_program as p, numpy as np\n"
            "s = p.Scheme(); parts = [s.partial(s.read(one)[0], n == 0) for n, one in enumerate(sys.argv[3:])]\n"
            "plain = s.context.MultipartyDecryptFusion(parts); plain.SetLength(s.ring)\n"
            "np.array(plain.GetPackedValue(), '<i8').tofile(sys.argv[2])\n"
        )
        folder, output = Path(bfv.__file__).parent, tmp_path / "slots"
        subprocess.run([bfv.find_interpreter(), "-I", "-c", script, folder, output, *parts], check=True)
        return np.fromfile(output, "<i8")

    honest = [np.arange(50), np.arange(50)[::-1] * 7]
    padded = [np.pad(one, (0, terms.ring_dimension - 50)) for one in honest]
    for one in padded:
        one[-1] = 1  # the canary
    told = [(slots(one, 1) - known) % terms.plaintext_modulus for one, known in zip(honest, padded, strict=True)]
    assert np.array_equal(told[0], told[1])  # the joint key's own numbers, once in every slot
    assert len(np.unique(told[0])) > 16_000
    assert np.array_equal(
        (slots(honest[0], 2) - padded[0]) % terms.plaintext_modulus, 2 * told[0] % terms.plaintext_modulus
    )
    with pytest.raises(FedcallError, match="do not open"):  # and our own fuse opens none of it
        bfv.fuse([(tmp_path / str(place)).read_bytes() for place in range(2)], 50, 1)
