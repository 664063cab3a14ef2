"""M-MoE in the transformers Trainer: Trainer(..., callbacks=[ElasticTopK(model, sampler)])."""

from transformers import TrainerCallback

from .k_plan import apply_k_plan


class ElasticTopK(TrainerCallback):
    """Before each micro-batch sets every router's top-k to the sampler's draw: gradient accumulation step j of
    optimizer step s takes row j of sampler.draw(s, first_micro_batch), steps from 1.

    `first_micro_batch`: of this data-parallel rank, counted over the global batch; 0 on every rank where the job says
    elastic.share = replicas.
    """

    def __init__(self, model, sampler, first_micro_batch=0):
        self._model, self._sampler, self._first = model, sampler, first_micro_batch
        self._row, self._draw = 0, None

    def _apply(self):
        apply_k_plan(self._model, self._draw[self._row].tolist())

    def on_train_begin(self, args, state, control, **kwargs):
        if args.gradient_accumulation_steps != self._sampler.num_micro_batches:
            raise ValueError(
                f"gradient_accumulation_steps = {args.gradient_accumulation_steps}, but the job's step has "
                f"{self._sampler.num_micro_batches} micro-batches a replica; make them equal"
            )

    def on_step_begin(self, args, state, control, **kwargs):
        self._row, self._draw = 0, self._sampler.draw(state.global_step + 1, self._first)
        self._apply()

    def on_substep_end(self, args, state, control, **kwargs):
        self._row += 1
        self._apply()
