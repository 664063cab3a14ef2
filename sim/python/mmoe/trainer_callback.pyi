from typing import Any

from . import Sampler

class ElasticTopK:
    def __init__(self, model: Any, sampler: Sampler, first_micro_batch: int = 0) -> None: ...
