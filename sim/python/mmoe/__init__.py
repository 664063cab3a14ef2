"""The simulator on dictionaries: a job has the keys of the job file, a result those of the command's --json."""

import json

from . import _core
from ._core import ConfigError

__all__ = ["ConfigError", "Sampler", "simulate"]


def simulate(job, calibration=None):
    """`mmoe simulate --json` of a job: bytes, seconds. `calibration`: path of a calibration. Raises ConfigError."""
    return json.loads(_core.simulate(json.dumps(job), "" if calibration is None else str(calibration)))


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
