"""Sets the number of active experts of each MoE layer of a transformers model, as k_plan.json says.

    from k_plan import apply_k_plan
    model = AutoModelForCausalLM.from_pretrained(folder)
    apply_k_plan(model, folder)
"""

import json
import pathlib


def moe_routers(model):
    """Modules that choose a fixed number of experts a token, in the order of the layers: the innermost with `top_k`."""

    def chooses(module):
        return isinstance(getattr(module, "top_k", None), int)

    return [m for m in model.modules() if chooses(m) and not any(chooses(c) for c in m.modules() if c is not m)]


def apply_k_plan(model, plan):
    """`plan`: a folder with k_plan.json, that file, or a list of one k a MoE layer. Returns the list."""
    if not isinstance(plan, (list, tuple)):
        path = pathlib.Path(plan)
        path = path / "k_plan.json" if path.is_dir() else path
        plan = json.loads(path.read_text())["k_per_layer"]
    routers = moe_routers(model)
    if len(routers) != len(plan):
        raise ValueError(f"the plan holds {len(plan)} numbers, but the model has {len(routers)} routers with a top_k")
    for router, k in zip(routers, plan):
        if not 1 <= k <= model.config.num_experts:
            raise ValueError(f"k = {k} is not between 1 and the model's {model.config.num_experts} experts")
        router.top_k = k
    return list(plan)
