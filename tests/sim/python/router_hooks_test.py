"""Drawn k in other trainers' routers: Megatron-Core's own router, and layers with torchtitan's names."""

import os
import pathlib
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))
if not (BUILD / "python" / "mmoe").is_dir():
    pytest.skip("the module mmoe was not built (MMOE_PYTHON is off)", allow_module_level=True)
sys.path.insert(0, str(BUILD / "python"))
torch = pytest.importorskip("torch")

from mmoe.router_hooks import RouterHook  # noqa: E402


def test_megatron_routers_take_the_drawn_k():
    router_module = pytest.importorskip("megatron.core.transformer.moe.router")
    from megatron.core.transformer.transformer_config import TransformerConfig

    config = TransformerConfig(
        num_layers=3, hidden_size=16, num_attention_heads=2, num_moe_experts=8, moe_router_topk=2,
        moe_router_load_balancing_type="none", use_cpu_initialization=True,
    )  # fmt: skip
    groups = types.SimpleNamespace(tp=None, cp=None, tp_cp=None, tp_dp_cp=None)

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.router = router_module.TopKRouter(config, pg_collection=groups)
            self.token_dispatcher = types.SimpleNamespace(config=config, router_topk=2)

    model = torch.nn.Sequential(*(Layer() for _ in range(3)))
    hook = RouterHook(model, moe_layers=[4, 5, 6])  # the second rank of a pipeline
    for draw in ([1, 1, 1, 1, 3, 1, 8], [6, 6, 6, 6, 1, 2, 5]):
        hook.set(draw)
        for layer, k in zip(model, draw[4:]):
            _, chosen = layer.router.routing(torch.randn(5, 1, 8))
            assert chosen.sum(dim=1).tolist() == [k] * 5
            assert layer.token_dispatcher.config.moe_router_topk == layer.token_dispatcher.router_topk == k
    assert config.moe_router_topk == 2  # the model's own config is no layer's


def test_torchtitan_layers_take_the_drawn_k():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.router, self.reorderer = torch.nn.Linear(2, 2), torch.nn.Identity()
            self.router.top_k = self.reorderer.top_k = 2

    model = torch.nn.Sequential(Layer(), Layer())
    RouterHook(model).set([3, 1])
    assert [(layer.router.top_k, layer.reorderer.top_k) for layer in model] == [(3, 3), (1, 1)]


def test_the_dispatcher_of_newer_torchtitan_layers_takes_it_too():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.router, self.routed_experts = torch.nn.Linear(2, 2), torch.nn.Identity()
            self.routed_experts.token_dispatcher = types.SimpleNamespace(top_k=2)
            self.router.top_k = 2

    layer = Layer()
    RouterHook(layer).set([3])
    assert layer.router.top_k == layer.routed_experts.token_dispatcher.top_k == 3


def test_wrong_models_are_named():
    with pytest.raises(ValueError, match="no MoE layer"):
        RouterHook(torch.nn.Linear(2, 2))
    layer = torch.nn.Identity()
    layer.router = torch.nn.Identity()
    layer.router.top_k = 1
    with pytest.raises(ValueError, match="names 2 layers"):
        RouterHook(layer, moe_layers=[0, 1])
    with pytest.raises(ValueError, match="below 1"):
        RouterHook(layer).set([0])
