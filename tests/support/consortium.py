"""A small consortium for tests: keys, a signed study, honest updates with the noise they claim."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcall.documents import sign, write_signed
from fedcall.keys import create_keys, read_signing_key
from fedcall.privacy.accounting.epsilon import study_epsilon
from fedcall.privacy.mechanism.update_noise import update_noise_std
from fedcall.privacy.terms import PrivacyTerms
from fedcall.study.claims import Claim
from fedcall.study.judgement import Judgement
from fedcall.study.terms import Site, Study
from fedcall.weights import Weights, read_weights, weights_digest, write_weights

SHAPES = {"conv.weight": (8, 6, 5), "norm1.weight": (8,), "head.weight": (3, 8), "head.bias": (3,)}
PATIENTS = {"north": 40, "south": 20}


@dataclass(frozen=True)
class Consortium:
    """A folder with everything a coordinator and its sites have."""

    folder: Path
    study: Study

    @property
    def study_path(self) -> Path:
        return self.folder / "study.json"

    @property
    def initial(self) -> Path:
        return self.folder / "initial.safetensors"

    @property
    def state(self) -> Path:
        return self.folder / "aggregator"

    def keys(self, name: str) -> Path:
        return self.folder / "keys" / name

    def update(self, site: str, number: int, base: Weights) -> dict[str, np.ndarray]:
        """Return an update that is nothing but the noise the study agreed."""
        terms = self.study.training
        std = update_noise_std(self.study.privacy, terms.learning_rate, terms.iterate_averaging, self.study.units(site))
        generator = np.random.default_rng([number, *site.encode()])
        names = self.study.model.trainable_names(base.tensors)
        return {name: generator.normal(0, std, base.tensors[name].shape).astype(np.float32) for name in names}

    def claim(self, site: str, number: int, base: str, update: dict[str, np.ndarray] | None, /, **changes) -> Claim:
        """Return the claim that belongs to an update (None: withheld), with `changes` made to it."""
        honest = {
            "study": self.study.digest,
            "site": site,
            "round": number,
            "outcome": "withheld" if update is None else "update",
            "base": base,
            "update": None if update is None else weights_digest(update),
            "privacy": self.study.privacy,
            "epsilon": study_epsilon(self.study.privacy, number).pld,
            "ledger_head": "0" * 64,
            "software": "test",
        }
        return Claim.model_validate({**honest, **changes})

    def sign_claim(self, claim: Claim, site: str) -> bytes:
        return sign(claim, read_signing_key(self.keys(site)))

    def judgement(self, site: str, final: str, total: int | None, /, **changes) -> bytes:
        """Return a site's signed judgement of the final model, with `changes` made to it."""
        honest = {
            "study": self.study.digest,
            "site": site,
            "outcome": "withheld" if total is None else "released",
            "initial": self.study.model.initial_weights,
            "final": final,
            "people": self.study.site(site).holdout,
            "total": total,
            "evaluation": self.study.evaluation,
            "ledger_head": "0" * 64,
            "software": "test",
        }
        return sign(Judgement.model_validate({**honest, **changes}), read_signing_key(self.keys(site)))

    def write_answer(self, site: str, number: int, model: Path, folder: Path) -> tuple[Path, Path]:
        """Write an honest update and its claim, as `train-round` would; return their paths."""
        base = read_weights(model)
        tensors = self.update(site, number, base)
        update, claim = folder / f"{site}.{number}.safetensors", folder / f"{site}.{number}.claim.json"
        write_weights(update, tensors, {"study": self.study.digest, "round": str(number), "base": base.digest})
        document = self.claim(site, number, base.digest, tensors)
        write_signed(claim, document, read_signing_key(self.keys(site)))
        return update, claim


def make_consortium(
    folder: Path,
    rounds: int = 2,
    patients: dict[str, int] | None = None,
    holdout: dict[str, int] | None = None,
    **terms,
) -> Consortium:
    """Make keys of a coordinator and its sites (two by default), an initial model and a signed study."""
    generator = np.random.default_rng(7)
    tensors = {name: generator.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    write_weights(folder / "initial.safetensors", tensors, {"architecture": "pileup_residual"})
    coordinator = create_keys(folder / "keys" / "coordinator", "coordinator")
    sites = []
    for name, count in (patients or PATIENTS).items():
        identity = create_keys(folder / "keys" / name, name)
        sites.append(
            Site(
                name=name,
                public_key=identity.public_key,
                node_key=identity.node_key,
                patients=count,
                holdout=(holdout or {}).get(name),
            )
        )
    study = Study.model_validate(
        {
            "name": "tiny",
            "coordinator": coordinator.public_key,
            "sites": sites,
            "model": {"initial_weights": weights_digest(tensors)},
            "rounds": rounds,
            "privacy": PrivacyTerms(noise_multiplier=2.0, steps_per_round=2, delta=2.5e-3, max_epsilon=3.0),
            **terms,
        }
    )
    write_signed(folder / "study.json", study, read_signing_key(folder / "keys" / "coordinator"))
    return Consortium(folder, study)
