"""The simulator on dictionaries: a job has the keys of the job file, a result those of the command's --json."""

import json

import numpy as np

from . import _core
from ._core import ConfigError

__all__ = ["ConfigError", "Sampler", "allocate", "budget", "plan", "simulate"]


def simulate(job, calibration=None):
    """`mmoe simulate --json` of a job: bytes, seconds. `calibration`: path of a calibration. Raises ConfigError."""
    return json.loads(_core.simulate(json.dumps(job), "" if calibration is None else str(calibration)))


def plan(
    job,
    top=10,
    objective="tokens_per_s",
    confidence=0.99,
    search_budget=False,
    min_sum_fraction=0.85,
    max_kl=0.05,
    calibration=None,
):
    """`mmoe plan --json` of a job: what it leaves out or sets to "auto" is searched, what it gives stays.

    `candidates` (at most `top`, best first by `objective`: "tokens_per_s", "days" or "cost") fit with probability
    `confidence`; none where the list is empty: `rejected` says why, `remedies` what single changes would do. With search_budget also layouts that need an activation budget: of at least min_sum_fraction of the mean sum
    of k, with a KL divergence of each layer's k of at most max_kl nats. Raises ConfigError.
    """
    path = "" if calibration is None else str(calibration)
    limits = (search_budget, min_sum_fraction, max_kl)
    return json.loads(_core.plan(json.dumps(job), path, top, objective, confidence, *limits))


def budget(job, memory_limit=None, saving=None, confidence=0.99, steps=None, calibration=None):
    """`mmoe budget --json` of a job: the activation budget for a limit in bytes or a saving (a fraction), with its laws.

    `marginals` is float64 [MoE layers, k_max - k_min + 1], `sum_k` by "with" and "without" a list with an array
    [sum, probability] for each group. Without a goal the limit is the device's usable memory. `budget` is None where
    no bound reaches the goal; `reason` says why. Raises ConfigError.
    """
    path = "" if calibration is None else str(calibration)
    result = json.loads(_core.budget(json.dumps(job), path, memory_limit, saving, confidence, steps))
    if "marginals" in result:
        result["marginals"] = np.array(result["marginals"])
        result["sum_k"] = {key: [np.array(law) for law in laws] for key, laws in result["sum_k"].items()}
    return result


def allocate(loss, cost, budget, k_min=1):
    """k of each layer with the least sum of losses whose costs sum to at most `budget`.

    loss, cost: [layer, k - k_min], any units that add up over layers. Returns {k_per_layer, loss, cost, gap}, the loss
    within gap of the least possible (0: proven), or None where even the cheapest costs more. Raises ConfigError.
    """
    return _core.allocate(loss, cost, budget, k_min)


class Sampler:
    """The draws of k that mmoe's trainer takes for a job (its training.seed), budget included. Raises ConfigError."""

    def __init__(self, job):
        self._core = _core.Sampler(json.dumps(job))

    def draw(self, step, first_micro_batch=0):
        """k as int64 [micro-batches of a replica's step, MoE layers]; first_micro_batch: the replica's, counted globally."""
        return self._core.draw(step, first_micro_batch)

    def marginals(self):
        """P(k) as float64 [MoE layers, k_max - k_min + 1]; not for budgets of kind window."""
        return self._core.marginals()

    @property
    def num_layers(self):
        """MoE layers."""
        return self._core.num_layers

    @property
    def num_micro_batches(self):
        """Micro-batches of a replica's step."""
        return self._core.num_micro_batches
