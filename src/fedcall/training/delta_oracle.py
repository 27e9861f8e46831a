"""A second opinion on a patient's delta: plain SGD of a copy of the model on that patient's rows, and nothing else.

Training computes all drawn patients' deltas in batches, by hand. A delta that began elsewhere than at the global model,
or in which another patient's rows have a part, would not be bounded by clipping one patient. So one patient of each
round, the last of the last batch, is computed again, alone, by the network itself under autograd.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fedcall.errors import PrivacyRefusal
from fedcall.model.caller import VariantCaller

_CLOSE = 0.02
"""Of the clip norm, between two computations of a clipped delta: float32 is a thousand times as close."""


def check_delta(
    model: VariantCaller,
    batches: Sequence[tuple[Tensor, ...]],
    rate: float,
    delta: Mapping[str, Tensor],
    clip_norm: float,
) -> None:
    """Refuse a round whose patient's clipped delta is not that of plain steps from the model on its own rows.

    Parameters
    ----------
    model : VariantCaller
        As the round began with it; it is not changed.
    batches : sequence of tuples of Tensor
        The patient's rows in each local step: windows, features, log posteriors, labels, weights, and what
        fragments show where the chemistry wants it.
    rate : float
        Learning rate of the local steps.
    delta : mapping of str to Tensor
        What training found.
    clip_norm : float

    Raises
    ------
    PrivacyRefusal
    """
    alone = VariantCaller().to(next(model.parameters()).device)
    alone.load_state_dict(copy.deepcopy(model.state_dict()))
    parameters = dict(alone.named_parameters())
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in delta)
    start = {name: parameters[name].detach().clone() for name in delta}
    for windows, features, log_posteriors, labels, weights, *observed in batches:
        chances = functional.log_softmax(alone(windows, features, log_posteriors, *observed), 1)
        loss = -(chances[torch.arange(len(labels)), labels] * weights).sum()
        gradients = torch.autograd.grad(loss, [parameters[name] for name in delta])
        with torch.no_grad():
            for name, gradient in zip(delta, gradients, strict=True):
                parameters[name].sub_(gradient, alpha=rate)
    expected = torch.cat([(parameters[name].detach() - start[name]).flatten() for name in delta]).double()
    found = torch.cat([part.flatten() for part in delta.values()]).double()
    wrong = float(torch.linalg.vector_norm(_clipped(found, clip_norm) - _clipped(expected, clip_norm)))
    if not wrong <= _CLOSE * clip_norm:
        raise PrivacyRefusal(
            f"a patient's delta is not that of plain steps from the global model on its own rows (off by"
            f" {wrong / clip_norm:.3g} clip norms); nothing was released. If training.learning_rate"
            f" {rate:g} makes local steps diverge, agree on a smaller one; else do not train with this installation,"
            " and report it"
        )


def _clipped(vector: Tensor, clip_norm: float) -> Tensor:
    """Return the vector with at most the clip norm; one that is not finite counts as zero."""
    norm = torch.linalg.vector_norm(vector)
    if not torch.isfinite(norm):
        return torch.zeros_like(vector)
    return vector * (clip_norm / max(float(norm), clip_norm))
