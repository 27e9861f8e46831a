"""One round at one site: check, charge the ledger, train, sign, release. Nothing else leaves than update and claim."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcall import __version__
from fedcall.documents import sign
from fedcall.errors import FedcallError
from fedcall.files import sha256_file, write_bytes
from fedcall.genomics.examples import Examples, open_examples
from fedcall.genomics.fingerprints import content_fingerprints
from fedcall.keys import read_secret, read_signing_key
from fedcall.model.caller import model_from_weights
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.ledger.ledger import Ledger, Member, ReleaseRequest
from fedcall.privacy.ledger.limits import read_limit
from fedcall.privacy.mechanism.adaptive_clipping import ClipTrace, clip_norms
from fedcall.privacy.mechanism.noise import keyed_digest
from fedcall.protection.encrypting import EncryptionKey
from fedcall.protection.masks import Release
from fedcall.study.claims import Claim
from fedcall.study.registered_keys import require_registered
from fedcall.study.terms import Study
from fedcall.training.ledger_age import refuse_older_ledger, remember_ledger
from fedcall.training.protecting import protect
from fedcall.weights import STAND_DOWN, Weights, read_weights, weights_bytes, weights_digest

_LENGTH_BYTES = 8


@dataclass(frozen=True)
class RoundOutcome:
    """How a round ended; free of data-dependent numbers, so it may be printed and logged."""

    state: Literal["trained", "returned", "withheld"]
    claim: Claim
    sentence: str


@dataclass(frozen=True)
class RoundFiles:
    """The files of one round at one site.

    Attributes
    ----------
    keys : Path
        The site's key folder.
    model : Path
        The global model of this round.
    examples : sequence of Path
        One examples file per training patient; the file's stem is the patient's name. None, if all have withdrawn.
    ledger : Path
        The site's ledger; made if there is none.
    update, claim : Path
        Files to write.
    receipts : sequence of Path
        Receipts of this site's earlier rounds: the ledger must hold the rows they name.
    """

    keys: Path
    model: Path
    examples: Sequence[Path]
    ledger: Path
    update: Path
    claim: Path
    receipts: Sequence[Path] = ()


def train_round(
    study: Study,
    site: str,
    round_number: int,
    files: RoundFiles,
    *,
    device: str = "cpu",
    on_step: Callable[[], object] = lambda: None,
    people: Mapping[str, Member] | None = None,
    key: EncryptionKey | None = None,
) -> RoundOutcome:
    """Train one round and write the update and its signed claim.

    The ledger is charged before training. A round that was already released is returned from the ledger, byte for byte,
    and costs nothing. Whoever has spent the budget is left out without a trace outside; an update of noise alone is a
    normal update. If this study's own rounds would pass its cap, which everybody can compute, nothing is trained: the
    claim says "withheld" and the update holds no tensors.

    Parameters
    ----------
    study : Study
        As `read_study` returns it.
    site : str
        Name of this site in the study.
    round_number : int
        From 1 to study.rounds.
    files : RoundFiles
        What is read and written.
    device : "cpu", "cuda" or "auto"
    on_step : callable
        Called after each training step, without arguments.
    people : mapping of str to Member, optional
        Who each patient is; whoever is not in it is a private person of the patient's name.
    key : EncryptionKey, optional
        The holders' joint key, where updates are encrypted.

    Raises
    ------
    FedcallError
        If study, site, keys, round, model and patients do not fit together.
    PrivacyRefusal
        If the ledger refuses: this round was charged for other inputs, data of one person is given as another's, or
        the ledger was tampered with or is an old copy.
    """
    keys, ledger_path = files.keys, files.ledger
    signing_key = _check_site(study, site, round_number, keys)
    _check_key(study, key)
    base = _check_model(study, round_number, files.model)
    patients = _check_patients(study, site, files.examples, ledger_path)
    # Whatever can be wrong with the inputs must show before the ledger is charged.
    model, device = model_from_weights(base, str(files.model)), choose_device(device)
    examples = {name: open_examples(path) for name, path in patients.items()}
    limit = read_limit(ledger_path)
    secret = read_secret(keys)
    refuse_older_ledger(ledger_path, keys, study, site, files.receipts)
    start = _clip_start(study, site, round_number, ledger_path)
    request = ReleaseRequest(
        study=study.digest,
        site=site,
        round=round_number,
        event=study.round_event,
        delta=study.privacy.delta,
        max_epsilon=study.privacy.max_epsilon,
        patients=tuple(_member(name, examples[name], (people or {}).get(name)) for name in patients),
        inputs=_inputs_digest(secret, study, base, patients, start),
        limit=limit,
        max_epsilon_if_broken=study.privacy.max_epsilon_if_broken,
    )
    with Ledger.open(ledger_path, secret) as ledger:
        reservation = ledger.reserve(request, base.metadata.get(STAND_DOWN, ""))
        remember_ledger(keys, ledger)
        spent, head = _charged_rounds(ledger, request), reservation.head
        if reservation.state == "withheld":
            claim = _claim(study, site, round_number, base, None, spent, head)
            update, signed = _update_bytes(study, round_number, base, {}), sign(claim, signing_key)
            outcome = RoundOutcome("withheld", claim, reservation.sentence)
        elif reservation.state == "released" and reservation.artefact is not None:
            update, signed, claim = _unpack(reservation.artefact)
            outcome = RoundOutcome("returned", claim, reservation.sentence)
        else:
            # Imported here: Opacus takes seconds that a withheld or returned round does not need.
            from fedcall.training.dp_sgd import train_privately

            admitted = {name: one for name, one in examples.items() if name in reservation.charged}
            made = train_privately(
                model,
                study,
                site,
                round_number,
                admitted,
                secret,
                device=device,
                on_step=on_step,
                clip_norm=start,
                inputs=request.inputs,
            )
            mask = Release(study.digest, site, round_number, request.inputs)
            tensors, envelope = protect(study, mask, secret, made.tensors, key)
            claim = _claim(study, site, round_number, base, weights_digest(tensors), spent, head, made.clipping)
            claim = claim.model_copy(update={"envelope": envelope})
            update, signed = _update_bytes(study, round_number, base, tensors), sign(claim, signing_key)
            ledger.release(request, _pack(update, signed))
            outcome = RoundOutcome("trained", claim, "trained and charged")
    write_bytes(files.update, update)
    write_bytes(files.claim, signed)
    return outcome


def _check_key(study: Study, key: EncryptionKey | None) -> None:
    """Refuse to charge anybody for an update that could not be encrypted."""
    wanted = study.protection.encryption
    if wanted is not None and (key is None or key.digest != wanted.digest):
        raise FedcallError(f"study '{study.name}' encrypts updates, and its holders' joint key was not given")


def choose_device(wanted: str) -> str:
    """Return the torch device for "cpu", "cuda" or "auto" (a GPU if there is one).

    Raises
    ------
    FedcallError
        If the name is not one of these, or "cuda" is wanted and there is none.
    """
    if wanted not in ("cpu", "cuda", "auto"):
        raise FedcallError(f"--device {wanted}: one of cpu, cuda, auto expected")
    # Deterministic cuBLAS needs it before the first kernel (NVIDIA cuBLAS, "Results reproducibility").
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise FedcallError("--device cuda: torch sees no CUDA device here; use --device cpu or auto")
    return "cuda" if available and wanted != "cpu" else "cpu"


def _check_site(study: Study, site: str, round_number: int, keys: Path) -> Ed25519PrivateKey:
    require_registered(study, site, keys)
    if not 1 <= round_number <= study.rounds:
        raise FedcallError(f"--round {round_number}: study '{study.name}' has rounds 1 to {study.rounds}")
    return read_signing_key(keys)


def _check_model(study: Study, round_number: int, path: Path) -> Weights:
    weights = read_weights(path)
    if round_number == 1 and weights.digest != study.model.initial_weights:
        raise FedcallError(
            f"{path}: weights {weights.digest[:12]}… are not the initial weights"
            f" {str(study.model.initial_weights)[:12]}… of study '{study.name}'; fetch round 1's global model again"
        )
    return weights


def _check_patients(study: Study, site: str, paths: Sequence[Path], ledger: Path) -> dict[str, Path]:
    patients: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise FedcallError(f"{path}: no such examples file; `fedcall pileup` makes it")
        if path.stem in patients:
            raise FedcallError(f"{path}: patient '{path.stem}' is given twice; a patient is one file")
        patients[path.stem] = path
    declared = study.site(site).patients
    if not patients and not _somebody_withdrew(ledger):
        raise FedcallError(f"no examples given; site '{site}' declared {declared} training patients")
    if len(patients) > declared:
        raise FedcallError(
            f"{len(patients)} patients given, but site '{site}' declared {declared} in study '{study.name}';"
            " train on the declared number or fewer, or agree on a new study"
        )
    return dict(sorted(patients.items()))


def _somebody_withdrew(path: Path) -> bool:
    if not path.is_file():
        return False
    with Ledger.open_to_read(path) as ledger:
        return any(row.kind == "withdraw" for row in ledger.rows())


def _member(patient: str, examples: Examples, known: Member | None) -> Member:
    who = known or Member(patient, patient)
    return replace(who, fingerprints=(*who.fingerprints, *content_fingerprints(examples)))


def _clip_start(study: Study, site: str, round_number: int, ledger_path: Path) -> float:
    """Return the clip norm a round starts from: where adaptive clipping ended in the site's last release."""
    if study.privacy.clipping == "fixed" or not ledger_path.is_file():
        return study.privacy.clip_norm
    with Ledger.open_to_read(ledger_path) as ledger:
        artefact = ledger.last_release(study.digest, site, round_number)
    trace = _unpack(artefact)[2].clipping if artefact else None
    return clip_norms(study.privacy, trace)[-1] if trace else study.privacy.clip_norm


def _inputs_digest(secret: bytes, study: Study, base: Weights, patients: dict[str, Path], clip_norm: float) -> str:
    """Return the keyed digest of all that determines the release: study, base model, and every patient's examples.

    The version of fedcall is left out on purpose: an upgrade must not turn the same release into a second one.
    """
    parts = [study.digest.encode(), base.digest.encode()]
    for name, path in patients.items():
        parts += [name.encode(), sha256_file(path).encode()]
    if study.privacy.clipping == "adaptive":
        parts.append(clip_norm.hex().encode())
    return keyed_digest(secret, "inputs", *parts)


def _charged_rounds(ledger: Ledger, request: ReleaseRequest) -> int:
    """Return how many rounds of this study, up to this one, the ledger has charged."""
    return len(
        {
            row.round
            for row in ledger.rows()
            if row.kind == "reserve" and (row.study, row.site) == (request.study, request.site)
            if row.round <= request.round
        }
    )


def _claim(
    study: Study,
    site: str,
    round_number: int,
    base: Weights,
    update: str | None,
    charged: int,
    ledger_head: str,
    clipping: ClipTrace | None = None,
) -> Claim:
    spent = study_epsilon(study.privacy, charged).pld if study.privacy.noise_multiplier > 0 else math.inf
    return Claim(
        study=study.digest,
        site=site,
        round=round_number,
        outcome="withheld" if update is None else "update",
        base=base.digest,
        update=update,
        privacy=study.privacy,
        epsilon=spent if math.isfinite(spent) else None,
        clipping=clipping,
        ledger_head=ledger_head,
        software=f"fedcall {__version__}",
    )


def _update_bytes(study: Study, round_number: int, base: Weights, tensors: Mapping[str, np.ndarray]) -> bytes:
    return weights_bytes(tensors, {"study": study.digest, "round": str(round_number), "base": base.digest})


def _pack(update: bytes, claim: bytes) -> bytes:
    return len(claim).to_bytes(_LENGTH_BYTES, "big") + claim + update


def _unpack(artefact: Path) -> tuple[bytes, bytes, Claim]:
    from fedcall.documents import read_unverified

    content = artefact.read_bytes()
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "big")
    signed = content[_LENGTH_BYTES:end]
    return content[end:], signed, read_unverified(signed, Claim)[0]
