import os
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

class ConfigError(ValueError): ...

def simulate(job: dict[str, Any], calibration: str | os.PathLike[str] | None = None) -> dict[str, Any]: ...
def plan(
    job: dict[str, Any],
    top: int = 10,
    objective: Literal["tokens_per_s", "days", "cost"] = "tokens_per_s",
    confidence: float = 0.99,
    search_budget: bool = False,
    min_sum_fraction: float = 0.85,
    max_kl: float = 0.05,
    calibration: str | os.PathLike[str] | None = None,
) -> dict[str, Any]: ...
def budget(
    job: dict[str, Any],
    memory_limit: float | None = None,
    saving: float | None = None,
    confidence: float = 0.99,
    steps: int | None = None,
    calibration: str | os.PathLike[str] | None = None,
) -> dict[str, Any]: ...
def allocate(
    loss: npt.ArrayLike, cost: npt.ArrayLike, budget: float, k_min: int = 1
) -> dict[str, Any] | None: ...

class Sampler:
    def __init__(self, job: dict[str, Any]) -> None: ...
    def draw(self, step: int, first_micro_batch: int = 0) -> npt.NDArray[np.int64]: ...
    def marginals(self) -> npt.NDArray[np.float64]: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def num_micro_batches(self) -> int: ...
