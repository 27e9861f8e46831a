"""A study trained to its end inside one process: the training and the averaging of a real one, without its network."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fedcall.experiments.frozen_trunk import FrozenTrunkCaller, TrunkMemory
from fedcall.federation.aggregator.aggregation import Contribution, apply_update, next_global
from fedcall.genomics.examples import Examples
from fedcall.model.caller import VariantCaller, model_from_weights
from fedcall.privacy.mechanism.adaptive_clipping import clip_norms
from fedcall.study.sums import SumLayout, add_modulo, mean_update
from fedcall.study.terms import Site, Study
from fedcall.training.dp_sgd import train_privately
from fedcall.weights import Weights, write_weights

_NO_KEY = "A" * 43 + "="

Sites = Mapping[str, Mapping[str, Examples]]
"""Training patients by site and name."""


def with_sites(terms: Study, patients: Mapping[str, int]) -> Study:
    """Return a study of the same terms with these sites and declared patients; its keys are placeholders."""
    sites = tuple(
        Site(name=name, public_key=_NO_KEY, node_key="none", patients=count) for name, count in patients.items()
    )
    return Study.model_validate({**terms.model_dump(), "sites": [site.model_dump() for site in sites]})


def federate(
    study: Study,
    initial: Mapping[str, np.ndarray],
    sites: Sites,
    secret: bytes,
    on_round: Callable[[], object] = lambda: None,
    memory: TrunkMemory | None = None,
) -> dict[str, np.ndarray]:
    """Train all rounds of a study and return the last global model.

    Parameters
    ----------
    study : Study
        With the sites of `sites`.
    initial : float32 tensors by name
        The first global model, whole.
    sites : mapping of site to patients
    secret : bytes
        Stands for the secrets of all sites; the sites' names keep their noise apart.
    on_round : callable
        Called after each round.
    memory : TrunkMemory, optional
        Saves the trunk's work where nobody trains it.
    """
    current = {name: np.array(tensor) for name, tensor in initial.items()}
    starts: dict[str, float] = {}  # clip norms of adaptive clipping, which go on from round to round
    with tempfile.TemporaryDirectory(prefix="fedcall-federation-") as folder:
        for round_number in range(1, study.rounds + 1):
            contributions, vectors = [], []
            for site in study.sites:
                model = _model(study, current, memory)
                made = train_privately(
                    model,
                    study,
                    site.name,
                    round_number,
                    sites[site.name],
                    secret,
                    clip_norm=starts.get(site.name),
                )
                if made.clipping is not None:
                    starts[site.name] = clip_norms(study.privacy, made.clipping)[-1]
                if study.sends_sums:
                    vectors.append(made.tensors)
                    continue
                path = Path(folder) / f"{site.name}.safetensors"
                write_weights(path, made.tensors, {})
                contributions.append(Contribution(site.name, path, site.patients))
            if study.sends_sums:
                current = _opened(study, current, vectors)
            else:
                current = next_global(current, contributions, study.aggregation).tensors
            on_round()
    return current


def _model(study: Study, tensors: Mapping[str, np.ndarray], memory: TrunkMemory | None) -> VariantCaller:
    model = model_from_weights(Weights(dict(tensors), {}), "global model")
    if memory is None or not memory.serves(study.model, tensors):
        return model
    remembering = FrozenTrunkCaller(memory)
    remembering.load_state_dict(model.state_dict())
    return remembering


def _opened(
    study: Study, current: Mapping[str, np.ndarray], vectors: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the next global model from the sum of all sites' vectors, added in the clear as masks would add them."""
    layout = SumLayout.of({name: tensor.shape for name, tensor in vectors[0].items()})
    opened = add_modulo(layout.flatten(vector) for vector in vectors)
    update = mean_update(study, layout, opened, [site.name for site in study.sites])
    return apply_update(current, update, study.aggregation).tensors
