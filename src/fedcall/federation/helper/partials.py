"""A key holder's partial decryptions: of sums it added itself, each stored before it is given, none made twice."""

from collections.abc import Callable, Iterator
from pathlib import Path

from fedcall.errors import FedcallError
from fedcall.files import write_bytes
from fedcall.protection import bfv
from fedcall.protection.ceremony import read_holders_secret
from fedcall.protection.encrypting import read_ciphertexts
from fedcall.study.sum_orders import SumOrder
from fedcall.study.terms import Study

Fetch = Callable[[str], bytes]
"""Fetches the file of a listed site's update; it is not believed."""


class Partials:
    """The partial decryptions of one holder in one study; `folder` holds them, by the digests of their orders."""

    def __init__(self, folder: Path, keys: Path, study: Study, name: str) -> None:
        """Take up the folder.

        Raises
        ------
        FedcallError
            If OpenFHE is missing, or this holder took no part in the study's joint key.
        """
        terms = study.protection
        assert terms.encryption is not None  # a complete study has it
        self._folder, self._leads = Path(folder), terms.leader == name
        self._secret = read_holders_secret(terms.encryption, terms.signing_keys, keys, name)

    def make(self, order: SumOrder, fetch: Fetch) -> bytes:
        """Return the partial decryption for an order: the stored one, or one of the sum of the listed ciphertexts.

        One update is in memory at a time. Each partial decryption has fresh noise that hides the key, and two of one
        sum would halve it: so the first that is stored is the only one that is ever given.

        Raises
        ------
        FedcallError
            If an update is not the one that its site signed, or holds no ciphertexts.
        """
        path = self._path(order.digest)
        if path.exists():
            return path.read_bytes()
        total = bfv.add(listed_ciphertexts(order, fetch), 2 * bfv.parameters().blocks(order.values))
        made = bfv.partial(total, self._secret, self._leads)
        write_bytes(path, made)
        return made

    def stored(self, order: str) -> bytes:
        """Return what was given for an order of this digest; FedcallError if it is gone, for it is not made again."""
        path = self._path(order)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise FedcallError(
                f"{path}: is missing, but the log says that it was given; restore it from your backup"
            ) from None

    def _path(self, order: str) -> Path:
        return self._folder / f"{order}.partial"


def listed_ciphertexts(order: SumOrder, fetch: Fetch) -> Iterator[bytes]:
    """Yield the ciphertexts of each listed update, once it is the one that its site signed; FedcallError if not."""
    for one in order.updates:
        try:
            yield read_ciphertexts(fetch(one.site), one.update, order.values)
        except FedcallError as error:
            raise FedcallError(f"the update of site '{one.site}': {error}") from None
