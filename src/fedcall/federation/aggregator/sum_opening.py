"""Opening the one sum of a round whose updates are masked: the order, the helpers' answers, the sum and its checks.

The aggregator never sees a single update; it holds masked ones. When a round closes it signs one sum order, which is a
line of the log before any helper hears of it: from then on the round has this list and no other. Each helper answers
with the sum of its masks over the list. With all answers there, the masked updates minus the masks are the sum of the
sites' vectors, and nothing else. A helper that is away delays the round, and nothing is lost.

Where updates are encrypted (mode encrypted) it holds ciphertexts of masked ones, and each answer brings a key holder's
partial decryption besides: all of them together open the sum of the masked updates, and all goes on as above.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall.documents import read_unverified, sign, verify
from fedcall.errors import FedcallError
from fedcall.federation.aggregator.aggregation import NextGlobal, apply_update
from fedcall.federation.aggregator.flat_updates import flat_updates
from fedcall.federation.aggregator.round_closing import Closing, admitted_sites, moments_of, put_out
from fedcall.federation.aggregator.state_files import StudyFiles
from fedcall.federation.aggregator.study_log import StudyLog
from fedcall.files import write_bytes, write_text
from fedcall.privacy.mechanism.pooling import SUM_GRID
from fedcall.protection import bfv
from fedcall.shown import shown
from fedcall.study.admission_log import Ordered
from fedcall.study.claims import Claim
from fedcall.study.protection import Helper
from fedcall.study.sum_orders import ListedUpdate, MaskSum, OrderPapers, SumOrder
from fedcall.study.sums import SumLayout, mean_update, opened_bounds
from fedcall.study.terms import Study


class SumOpening:
    """The sums of one study at its aggregator; `log` and `files` are all that it knows."""

    def __init__(self, study: Study, files: StudyFiles, log: StudyLog, key: Ed25519PrivateKey) -> None:
        self._study, self._files, self._log, self._key = study, files, log, key

    @property
    def is_ordered(self) -> bool:
        """Whether the open round takes no more updates, because its sum was ordered."""
        return self._log.open_round in self._log.ordered

    def order(self, values: int) -> bool:
        """Sign the open round's order, once and for all, or say that there are too few updates for a sum."""
        number = self._log.open_round
        sites = sorted(admitted_sites(self._study, self._log))
        if len(sites) < self._study.least_sites:
            return False
        claims = [self._claim(number, site)[1] for site in sites]
        order = SumOrder(
            study=self._study.digest,
            round=number,
            base=self._log.openings[number].base,
            values=values,
            updates=tuple(
                ListedUpdate(site=claim.site, claim=claim.digest, update=str(claim.update)) for claim in claims
            ),
        )
        self._log.append(Ordered(round=number, order=sign(order, self._key).decode()))
        return True

    def waiting_for(self) -> list[str]:
        """Return the helpers whose answer the open round waits for."""
        return [helper.name for helper in self._study.protection.helpers if self._statement(helper) is None]

    def pending(self, name: str) -> tuple[bytes, bytes] | None:
        """Return the order and the papers for a helper that has not answered it; None if there is nothing to answer."""
        helper = self._helper(name)
        if not self._awaits(helper):
            return None
        number = self._log.open_round
        signed, order = self._order(number)
        claims = tuple(self._claim(number, site)[0].decode() for site in order.sites)
        papers = OrderPapers(claims=claims, newest=self._newest(helper))
        return signed.encode(), papers.canonical()

    def listed(self, name: str, site: str) -> bytes:
        """Return the update of a listed site for a key holder that has not answered, which adds them itself.

        Raises
        ------
        FedcallError
            If there is no such order, or no such site in it.
        """
        if not self._awaits(self._helper(name)) or not self._study.protection.is_encrypted:
            raise FedcallError("no order to answer, so no update to add")
        number = self._log.open_round
        if site not in self._order(number)[1].sites:
            raise FedcallError("this site is not in the order")
        return self._files.update(number, site).read_bytes()

    def take(self, name: str, signed: bytes, masks: bytes) -> None:
        """Store a helper's answer; the same answer again changes nothing.

        Raises
        ------
        FedcallError
            If it is not the helper's signed answer to the open round's order, or the masks are not those it names.
        """
        helper = self._helper(name)
        statement = verify(signed, MaskSum, helper.public_key)
        number = statement.round
        if number not in self._log.ordered:
            raise FedcallError(f"no sum of round {number} was ordered")
        _, order = self._order(number)
        if (statement.study, statement.helper, statement.order) != (self._study.digest, name, order.digest):
            raise FedcallError(f"helper '{name}': its answer is not to the order of round {number}")
        path = self._files.mask_statement(number, name)
        if path.exists():
            if path.read_bytes() != signed:
                raise FedcallError(f"helper '{name}' gave another answer to the order of round {number} before")
            return
        if statement.masks is not None:
            sums, partial = masks[: 4 * order.values], masks[4 * order.values :]
            if len(sums) != 4 * order.values or hashlib.sha256(sums).hexdigest() != statement.masks:
                raise FedcallError(f"helper '{name}': the masks are not those that its answer names")
            self._check_partial(name, statement, partial, order.values)
            write_bytes(self._files.masks(number, name), sums)
            if partial:
                write_bytes(self._files.partial(number, name), partial)
        elif not statement.unopened or not set(statement.unopened) <= set(order.sites):
            raise FedcallError(f"helper '{name}': its answer holds neither masks nor sites of the list")
        write_bytes(path, signed)
        self._files.mask_refusal(number, name).unlink(missing_ok=True)

    def note_refusal(self, name: str, sentence: str) -> None:
        """Keep why a helper does not answer, for the operator."""
        write_text(self._files.mask_refusal(self._log.open_round, self._helper(name).name), shown(sentence, 500) + "\n")

    def close(self, base: Mapping[str, np.ndarray]) -> Closing | None:
        """Return what the ordered round makes, or None while a helper's answer is missing.

        It only reads; the same files and log give the same closing.
        """
        number = self._log.open_round
        found = [self._statement(helper) for helper in self._study.protection.helpers]
        statements = [statement for statement in found if statement is not None]
        if len(statements) < len(found):
            return None
        _, order = self._order(number)
        signed = tuple(statement.decode() for statement, _ in statements)
        unopened = sorted({site for _, statement in statements for site in statement.unopened})
        moments = moments_of(self._files, self._log)
        left = NextGlobal({name: np.array(tensor) for name, tensor in base.items()}, moments)
        if unopened:
            reason = "not averaged, its sealed seed is not one for this update"
            outliers = tuple(put_out(self._study, self._log, site, reason, quarantines=True) for site in unopened)
            void = f"round {number} is void: nobody can take the mask off the update of {', '.join(unopened)}"
            return Closing((), outliers, left, signed, void)
        try:
            opened = self._opened(order)
            void_reason = self._beyond(order, opened)
        except bfv.NotOpened as fault:
            void_reason = str(fault)
        if void_reason:
            return Closing((), (), left, signed, f"round {number} is void: {void_reason}")
        names = self._study.model.trainable_names(base)
        layout = SumLayout.of({name: base[name].shape for name in names})
        update = mean_update(self._study, layout, opened, order.sites)
        return Closing(order.sites, (), apply_update(base, update, self._study.aggregation, moments), signed)

    def too_few(self, base: Mapping[str, np.ndarray]) -> Closing:
        """Return the closing of a round with fewer updates than a sum may have: nothing is opened, ever."""
        number, sites = self._log.open_round, len(admitted_sites(self._study, self._log))
        moments = moments_of(self._files, self._log)
        left = NextGlobal({name: np.array(tensor) for name, tensor in base.items()}, moments)
        few = f"{sites} updates, a sum has no fewer than {self._study.least_sites}"
        return Closing((), (), left, (), f"round {number} is void: {few}" if sites else None)

    def _opened(self, order: SumOrder) -> np.ndarray:
        """Return the sum of the sites' vectors: int32, shape (order.values,)."""
        number = order.round
        total = self._decrypted(order) if self._study.protection.is_encrypted else self._added(order)
        for helper in self._study.protection.helpers:
            total -= np.fromfile(self._files.masks(number, helper.name), "<u4")
        return total.view(np.int32)

    def _added(self, order: SumOrder) -> np.ndarray:
        """Return the sum of masked updates modulo 2^32: uint32, shape (order.values,)."""
        total = np.zeros(order.values, np.uint32)
        for update in flat_updates([self._files.update(order.round, site) for site in order.sites], "I32"):
            total += update.words()
        return total

    def _decrypted(self, order: SumOrder) -> np.ndarray:
        """Return the sum of masked updates modulo 2^32 that all holders' partial decryptions open."""
        names = sorted(self._study.protection.signing_keys)
        partials = [self._files.partial(order.round, name).read_bytes() for name in names]
        return bfv.fuse(partials, order.values, len(order.sites)).astype(np.uint64).astype(np.uint32)

    def _check_partial(self, name: str, statement: MaskSum, partial: bytes, values: int) -> None:
        """Refuse a partial decryption that is not the one named, or has no form of one."""
        if not self._study.protection.is_encrypted:
            if partial or statement.partial is not None:
                raise FedcallError(f"helper '{name}': the masks are not those that its answer names")
            return
        if hashlib.sha256(partial).hexdigest() != statement.partial:
            raise FedcallError(f"helper '{name}': the partial decryption is not the one that its answer names")
        bfv.check_polynomials(partial, bfv.parameters().blocks(values), f"helper '{name}': partial decryption")

    def _beyond(self, order: SumOrder, opened: np.ndarray) -> str:
        """Return why the sum cannot be that of honest updates, or nothing."""
        norm = float(np.linalg.norm(opened.astype(np.float64))) / SUM_GRID
        bounds = opened_bounds(self._study, order.sites, order.values)
        agreed = self._study.admission.max_update_norm
        if norm < bounds.floor:
            return f"the norm {norm:.4g} of the sum is below {bounds.floor:.4g}: it cannot carry the agreed noise"
        if norm > bounds.ceiling:
            return (
                f"the norm {norm:.4g} of the sum is above {bounds.ceiling:.4g}: at least one site sent what the terms"
                " do not allow, and nobody can say which"
            )
        step = self._step_norm(order, norm)
        if agreed is not None and step > agreed:
            return f"the norm {step:.4g} of the step is above admission.max_update_norm {agreed:.4g}"
        return ""

    def _step_norm(self, order: SumOrder, norm: float) -> float:
        terms = self._study.privacy
        units = terms.sampling_rate * sum(self._study.units(site) for site in order.sites)
        return self._study.step_size * norm * terms.clip_norm / units

    def _order(self, number: int) -> tuple[str, SumOrder]:
        signed = self._log.ordered[number].order
        return signed, read_unverified(signed.encode(), SumOrder)[0]

    def _claim(self, number: int, site: str) -> tuple[bytes, Claim]:
        signed = self._files.claim(number, site).read_bytes()
        return signed, read_unverified(signed, Claim)[0]

    def _statement(self, helper: Helper) -> tuple[bytes, MaskSum] | None:
        try:
            signed = self._files.mask_statement(self._log.open_round, helper.name).read_bytes()
        except FileNotFoundError:
            return None
        return signed, verify(signed, MaskSum, helper.public_key)

    def _newest(self, helper: Helper) -> str | None:
        """Return the helper's newest answer in earlier rounds, as the log has it."""
        place = [one.name for one in self._study.protection.helpers].index(helper.name)
        answers: Sequence[str] = [
            opening.masks[place] for _, opening in sorted(self._log.openings.items()) if opening.masks
        ]
        return answers[-1] if answers else None

    def _awaits(self, helper: Helper) -> bool:
        return self.is_ordered and self._statement(helper) is None

    def _helper(self, name: str) -> Helper:
        found = next((helper for helper in self._study.protection.helpers if helper.name == name), None)
        if found is None:
            raise FedcallError(f"'{name}' is no helper of study '{self._study.name}'")
        return found
