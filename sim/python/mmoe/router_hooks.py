"""Drawn k in Megatron-Core's and torchtitan's own training loops.

    hook = RouterHook(model)                 # once, on each pipeline rank's own layers
    hook.set(sampler.draw(step)[i])          # before micro-batch i of each step: k of every MoE layer of the model

Written for megatron-core 0.16 (the router is tested, its dispatchers are not run without a GPU) and for torchtitan's
`MoE` with `router.top_k`, which its dispatcher must know too: `reorderer.top_k`, from 0.3 on
`routed_experts.token_dispatcher.top_k` (with torchtitan 0.3.0 on one process a layer gives the bits of one built with
that k; the tests do not install it).
"""

import copy


def _is_megatron(layer):
    return isinstance(getattr(getattr(layer, "router", None), "topk", None), int)


def _is_torchtitan(layer):
    return isinstance(getattr(getattr(layer, "router", None), "top_k", None), int)


def _dispatchers(layer):
    """torchtitan's, of any version, that divide row numbers by k."""
    routed = getattr(layer, "routed_experts", None)
    parts = (getattr(layer, "reorderer", None), getattr(routed, "token_dispatcher", None))
    return [part for part in parts if hasattr(part, "top_k")]


class RouterHook:
    """Sets the number of active experts of each MoE layer. Raises ValueError for models without such layers.

    `moe_layers`: which of the model's MoE layers, counted from 0, the modules found in `model` are, in their order;
    default: all. A pipeline rank names its own.
    """

    def __init__(self, model, moe_layers=None):
        self._layers = [m for m in model.modules() if _is_megatron(m) or _is_torchtitan(m)]
        if not self._layers:
            raise ValueError("the model has no MoE layer with router.topk (Megatron-Core) or router.top_k (torchtitan)")
        self._places = list(range(len(self._layers)) if moe_layers is None else moe_layers)
        if len(self._places) != len(self._layers):
            raise ValueError(f"moe_layers names {len(self._places)} layers, but the model here has {len(self._layers)}")
        for layer in self._layers:
            # Megatron's layers share one config, and dispatchers read moe_router_topk from it: each gets its own.
            if _is_megatron(layer):
                own = copy.copy(layer.router.config)
                layer.router.config = own
                if hasattr(layer, "token_dispatcher"):
                    layer.token_dispatcher.config = own

    def set(self, k_per_layer):
        """`k_per_layer`: one k a MoE layer of the whole model, as a row of Sampler.draw."""
        for place, layer in zip(self._places, self._layers):
            k = int(k_per_layer[place])
            if k < 1:
                raise ValueError(f"k = {k} of MoE layer {place} is below 1")
            if _is_megatron(layer):
                layer.router.topk = layer.router.config.moe_router_topk = k
                dispatcher = getattr(layer, "token_dispatcher", None)
                if hasattr(dispatcher, "router_topk"):
                    dispatcher.router_topk = k
            else:
                for part in (layer.router, *_dispatchers(layer)):
                    part.top_k = k
