"""The module mmoe: the command's numbers, the sampler's law and budget, and training with the transformers callback."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))
if not (BUILD / "python" / "mmoe").is_dir():
    pytest.skip("the module mmoe was not built (MMOE_PYTHON is off)", allow_module_level=True)
sys.path.insert(0, str(BUILD / "python"))
import mmoe  # noqa: E402

LAYERS, EXPERTS, BOUND = 4, 8, 9
MODEL = dict(
    hidden_size=32, num_layers=LAYERS, num_heads=4, num_kv_heads=4, head_dim=8, vocab_size=64,
    num_experts=EXPERTS, expert_hidden_size=16,
)  # fmt: skip
JOB = {
    "model": MODEL,
    "hardware": {"device": "h100-sxm-80gb"},
    "training": {"seq_len": 16, "micro_batch_size": 4, "global_batch_size": 8, "seed": 7},
    "elastic": {"k_min": 1, "k_max": 4, "budget": {"kind": "at_most", "sum_k": BOUND}},
}


def test_simulate_is_the_command(tmp_path):
    path = tmp_path / "job.json"
    path.write_text(json.dumps(JOB))
    command = [BUILD / "bin" / "mmoe", "simulate", "--job", path, "--json"]
    assert mmoe.simulate(JOB) == json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def test_budget_is_the_command(tmp_path):
    path = tmp_path / "job.json"
    path.write_text(json.dumps(JOB))
    command = [BUILD / "bin" / "mmoe", "budget", "--job", path, "--saving", "0.001", "--steps", "50", "--json"]
    expected = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    result = mmoe.budget(JOB, saving=0.001, steps=50)
    assert result["marginals"].shape == (LAYERS, 4)
    result["marginals"] = result["marginals"].tolist()
    result["sum_k"] = {key: [law.tolist() for law in laws] for key, laws in result["sum_k"].items()}
    assert result == expected
    with pytest.raises(mmoe.ConfigError, match="saving"):
        mmoe.budget(JOB, saving=2)
    with pytest.raises(mmoe.ConfigError, match="steps"):
        mmoe.budget(JOB, saving=0.1, steps=0)


def without_seconds(plan):
    return {key: value for key, value in plan.items() if key != "seconds"}


@pytest.mark.parametrize("devices", [1, 8])
def test_plan_is_the_command(devices, tmp_path):
    training = {key: value for key, value in JOB["training"].items() if key != "micro_batch_size"}
    job = {**JOB, "hardware": {**JOB["hardware"], "num_devices": devices}, "training": training}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    command = [BUILD / "bin" / "mmoe", "plan", "--job", path, "--top", "3", "--confidence", "0.9", "--json"]
    command += ["--objective", "cost"]
    expected = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    result = mmoe.plan(job, top=3, objective="cost", confidence=0.9)
    assert len(result["candidates"]) == 3 and result["objective"] == "cost"
    assert without_seconds(result) == without_seconds(expected)
    with pytest.raises(mmoe.ConfigError, match="confidence"):
        mmoe.plan(job, confidence=1)
    with pytest.raises(mmoe.ConfigError, match="objective fastest"):
        mmoe.plan(job, objective="fastest")
    with pytest.raises(mmoe.ConfigError, match="max-kl"):
        mmoe.plan(job, search_budget=True, max_kl=0)


def test_allocate_finds_the_best_of_all():
    generator = np.random.default_rng(3)
    loss, cost = generator.random((4, 3)), generator.integers(1, 6, (4, 3)).astype(float)
    result = mmoe.allocate(loss, cost, 10, k_min=2)
    every = []
    for choice in np.ndindex(3, 3, 3, 3):
        if cost[range(4), choice].sum() <= 10:
            every.append((loss[range(4), choice].sum(), choice))
    best = min(every)
    assert result["k_per_layer"].tolist() == [i + 2 for i in best[1]]
    # Four numbers below 1 summed in another order.
    assert abs(result["loss"] - best[0]) <= 4 * np.finfo(float).eps
    assert mmoe.allocate(loss, cost, 0) is None
    with pytest.raises(mmoe.ConfigError, match="shape"):
        mmoe.allocate(loss, cost[:3], 10)


def test_wrong_job_is_a_value_error_of_one_line():
    with pytest.raises(mmoe.ConfigError, match="modle") as error:
        mmoe.simulate({**JOB, "modle": {}})
    assert isinstance(error.value, ValueError) and "\n" not in str(error.value)


def test_draws_repeat_keep_the_budget_and_follow_the_marginals():
    sampler = mmoe.Sampler(JOB)
    steps = 4000
    draws = np.concatenate([sampler.draw(step) for step in range(1, steps + 1)])
    assert draws.dtype == np.int64 and draws.shape == (2 * steps, LAYERS)
    assert draws.sum(axis=1).max() == BOUND and draws.min() == 1 and draws.max() == 4
    assert (sampler.draw(5, 1)[0] == sampler.draw(5)[1]).all()
    law = sampler.marginals()
    np.testing.assert_allclose(law.sum(axis=1), 1, rtol=0, atol=4 * np.finfo(float).eps)
    counted = np.stack([(draws == k).mean(axis=0) for k in range(1, 5)], axis=1)
    # Five standard deviations of a mean of independent draws; 16 cells.
    assert (np.abs(counted - law) <= 5 * np.sqrt(law * (1 - law) / len(draws))).all()


@pytest.mark.parametrize("experts", ["eager", "grouped_mm"])
@pytest.mark.parametrize("name", ["Olmoe", "Mixtral", "Qwen2Moe", "Qwen3Moe"])
def test_trainer_callback(name, experts, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from mmoe.trainer_callback import ElasticTopK
    from mmoe.k_plan import moe_routers

    pytest.importorskip("accelerate")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = getattr(transformers, name + "Config")(
        hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=4, head_dim=8,
        vocab_size=64, intermediate_size=16, moe_intermediate_size=16, shared_expert_intermediate_size=16,
        num_experts=EXPERTS, num_local_experts=EXPERTS, num_experts_per_tok=2, pad_token_id=0,
    )  # fmt: skip
    config._experts_implementation = experts
    model = getattr(transformers, name + "ForCausalLM")(config)
    assert model.config._experts_implementation == experts
    seen, losses = [], []
    model.register_forward_pre_hook(lambda *_: seen.append([router.top_k for router in moe_routers(model)]))
    chosen = []  # experts a token that the first router really gave
    moe_routers(model)[0].register_forward_hook(lambda _, __, out: chosen.append(out[-1].shape[-1]))

    class Losses(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            losses.extend([logs["loss"]] if "loss" in logs else [])

    tokens = torch.arange(16) % 8 + 1
    data = [{"input_ids": tokens, "labels": tokens}] * 8
    steps = 12
    arguments = transformers.TrainingArguments(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=steps, learning_rate=1e-2,
        logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    sampler = mmoe.Sampler(JOB)
    callbacks = [ElasticTopK(model, sampler), Losses()]
    transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=callbacks).train()

    drawn = np.concatenate([sampler.draw(step) for step in range(1, steps + 1)])
    assert (np.array(seen) == drawn).all()
    assert chosen == drawn[:, 0].tolist()
    assert np.array(seen).sum(axis=1).max() <= BOUND
    assert losses[-1] < losses[0] / 2
