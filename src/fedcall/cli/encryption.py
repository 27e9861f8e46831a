"""`fedcall encryption`: sums of encrypted vectors, step by step on files, and the ceremony that makes their key."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedcall.cli.printing import say

if TYPE_CHECKING:
    import numpy as np

_CEREMONY = typer.Option(..., "--ceremony", help="Name of the ceremony, one for each study: letters, digits, '-', '_'.")
_EXCHANGE = typer.Option(..., "--exchange", help="Folder that the holders exchange; nothing in it is secret.")
_KEYS = typer.Option(..., "--keys", help="Folder of this holder's keys, made by 'fedcall helper keygen'.")
_HOLDERS = typer.Option(..., "--holder", metavar="HELPER.JSON", help="Public file of each holder, two or three.")
_KEY = typer.Option(..., "--key", help="The joint public key.")
_OUTPUT = typer.Option(..., "--output", help="File to write.")


def register(app: typer.Typer) -> None:
    """Add the `encryption` commands."""
    encryption = typer.Typer(
        no_args_is_help=True,
        help="Sums of encrypted vectors: only all holders of the key together open one.",
    )
    for command in (keygen, reveal, join, parameters, known, encrypt, add, partial, fuse, verify):
        encryption.command(command.__name__)(command)
    app.add_typer(encryption, name="encryption")


def parameters() -> None:
    """Show the scheme's parameters, from OpenFHE's tables; fails with what to install where there is no OpenFHE.

    Example: fedcall encryption parameters
    """
    from fedcall.protection import bfv

    say(bfv.parameters().sentence())


def keygen(keys: Path = _KEYS, ceremony: str = _CEREMONY, exchange: Path = _EXCHANGE) -> None:
    """Make this holder's share of a key, once, and commit to it; run again, it commits to the same share.

    Example: fedcall encryption keygen --keys private/helper/keys --ceremony pilot --exchange ceremony
    """
    from fedcall.cli.site import check_name
    from fedcall.protection.ceremony import commit

    check_name(ceremony)
    say(f"committed {commit(keys, ceremony, exchange)}; once all have, run 'fedcall encryption reveal'")


def reveal(
    keys: Path = _KEYS, ceremony: str = _CEREMONY, exchange: Path = _EXCHANGE, holders: list[Path] = _HOLDERS
) -> None:
    """Show this holder's share of the public key, once every holder has committed to its own.

    Example: fedcall encryption reveal --keys private/helper/keys --ceremony pilot --exchange ceremony --holder a.json
    --holder b.json
    """
    from fedcall.protection import ceremony as made

    made.reveal(keys, ceremony, exchange, holders)
    say("shown; once all have, run 'fedcall encryption join'")


def join(
    ceremony: str = _CEREMONY,
    exchange: Path = _EXCHANGE,
    holders: list[Path] = _HOLDERS,
    keys: Path | None = typer.Option(None, "--keys", help="Keys of a holder: is its share in the key?"),
    key: Path = _KEY,
) -> None:
    """Verify the ceremony and write the joint key, or, where it is there, check that it is this ceremony's.

    Example: fedcall encryption join --ceremony pilot --exchange ceremony --holder a.json --holder b.json
    --key pilot.key
    """
    import hashlib

    from fedcall.errors import FedcallError
    from fedcall.files import write_bytes
    from fedcall.protection import ceremony as made

    found = made.join(ceremony, exchange, holders)
    if key.exists() and key.read_bytes() != found:
        raise FedcallError(f"{key}: is another key than the one of ceremony '{ceremony}'")
    if keys is not None:
        made.check_took_part(keys, ceremony, exchange, holders, found)
    write_bytes(key, found)
    say(f"joint key {hashlib.sha256(found).hexdigest()}")


def known(
    label: str = typer.Option(..., "--label", help="Anything; the numbers follow from it."),
    count: int = typer.Option(1000, "--count", min=1, help="How many numbers."),
    output: Path = _OUTPUT,
) -> None:
    """Write whole numbers that are no secret, to try a key with before a study begins.

    Example: fedcall encryption known --label north --output north.npy
    """
    import hashlib

    import numpy as np

    drawn = hashlib.shake_256(f"fedcall known numbers|{label}".encode()).digest(4 * count)
    _write_numbers(output, np.frombuffer(drawn, "<i4"))


def encrypt(
    key: Path = _KEY,
    values: Path = typer.Option(..., "--values", help="Whole numbers (.npy of int32 or int64, one dimension)."),
    output: Path = _OUTPUT,
) -> None:
    """Encrypt a vector of whole numbers under the joint key.

    Example: fedcall encryption encrypt --key pilot.key --values north.npy --output north.bfv
    """
    from fedcall.files import write_bytes
    from fedcall.protection import bfv

    numbers = _numbers(values)
    write_bytes(output, bfv.encrypt(_content(key), numbers))


def add(
    ciphertexts: list[Path] = typer.Argument(..., help="Encrypted vectors of the same length."),
    output: Path = _OUTPUT,
) -> None:
    """Add encrypted vectors; needs no key.

    Example: fedcall encryption add north.bfv south.bfv west.bfv --output sum.bfv
    """
    from fedcall.errors import FedcallError
    from fedcall.files import write_bytes
    from fedcall.protection import bfv

    size, block = len(_content(ciphertexts[0])), bfv.parameters().polynomial_bytes(2)
    if not size or size % block:
        raise FedcallError(f"{ciphertexts[0]}: {size} bytes, a multiple of {block} expected")
    write_bytes(output, bfv.add((_content(path) for path in ciphertexts), 2 * size // block))


def partial(
    total: Path = typer.Option(..., "--sum", help="The sum, which this holder added itself."),
    keys: Path = _KEYS,
    ceremony: str = _CEREMONY,
    leads: bool = typer.Option(False, "--lead", help="For the first holder by name, and for no other."),
    output: Path = _OUTPUT,
) -> None:
    """Decrypt a sum partially with this holder's key; the same sum gets the same bytes, kept in the key folder.

    For sums of known numbers, with which a key is tried. In a study 'fedcall helper serve' decrypts, against its log.

    Example: fedcall encryption partial --sum sum.bfv --keys private/helper/keys --ceremony pilot --output a.partial
    """
    from fedcall.files import write_bytes
    from fedcall.protection.ceremony import partial_once

    write_bytes(output, partial_once(keys, ceremony, _content(total), leads))


def fuse(
    partials: list[Path] = typer.Argument(..., help="Partial decryptions of all holders, the leader's first."),
    values: int = typer.Option(..., "--values", min=1, help="Numbers in the vector."),
    sites: int = typer.Option(..., "--sites", min=1, help="Number of vectors in the sum."),
    clear: list[Path] = typer.Option([], "--of", help="The vectors in the clear, if known: is the sum theirs?"),
    output: Path = _OUTPUT,
) -> None:
    """Open a sum from all holders' partial decryptions; a missing or wrong one is an error, never garbage.

    Example: fedcall encryption fuse a.partial b.partial --values 24273 --sites 3 --output sum.npy
    """
    import numpy as np

    from fedcall.errors import FedcallError
    from fedcall.protection import bfv

    opened, vectors = bfv.fuse([_content(path) for path in partials], values, sites), [_numbers(one) for one in clear]
    if any(len(one) != values for one in vectors):
        raise FedcallError(f"--of: vectors of {values} numbers expected, found {[len(one) for one in vectors]}")
    if vectors and not np.array_equal(opened, np.sum([one.astype(np.int64) for one in vectors], axis=0)):
        raise FedcallError("what was opened is not the sum of these vectors: do not use this key")
    _write_numbers(output, opened)
    if vectors:
        say(f"opened: bit for bit the sum of the {len(vectors)} vectors in the clear")


def verify(
    study: Path = typer.Option(..., "--study", help="Signed study (study.json)."),
    keys: Path = _KEYS,
    log: Path = typer.Option(..., "--log", help="The admission log, from the aggregator or any hospital."),
    number: int = typer.Option(..., "--round", min=1, help="The round."),
    partial: Path = typer.Option(
        ...,
        "--partial",
        help="The partial decryption: of the helper's state, or rounds/N/masks at the aggregator.",
    ),
    updates: Path = typer.Option(..., "--updates", help="Folder of the listed updates: rounds/N/accepted there."),
) -> None:
    """Tell whether a round is void by this holder's fault: is what it signed the partial decryption of the listed sum?

    It takes the holder's secret key, so the holder runs it, and whoever doubts may watch.

    Example: fedcall encryption verify --study study.json --keys private/helper/keys --log admission.jsonl --round 3
    --partial rounds/3/masks/notary.partial --updates rounds/3/accepted
    """
    from fedcall.federation.helper.dispute import verify_given
    from fedcall.study.terms import read_study

    say(verify_given(read_study(study), number, keys, log, partial, updates))


def _numbers(path: Path) -> "np.ndarray":
    import numpy as np

    from fedcall.errors import FedcallError

    try:
        numbers: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FedcallError(f"{path}: not a .npy file of whole numbers ({error})") from None
    if numbers.ndim != 1 or numbers.dtype not in (np.int32, np.int64):
        raise FedcallError(f"{path}: one dimension of int32 or int64 expected, found {numbers.dtype} {numbers.shape}")
    return numbers


def _write_numbers(path: Path, numbers: "np.ndarray") -> None:
    import io

    import numpy as np

    from fedcall.files import write_bytes

    content = io.BytesIO()
    np.save(content, numbers)
    write_bytes(path, content.getvalue())


def _content(path: Path) -> bytes:
    from fedcall.errors import FedcallError

    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise FedcallError(f"{path}: no such file") from None
