"""Scripts for Megatron-Core against Megatron-Core itself. PyPI's package has no command line of its own (that lies in
pretrain_gpt.py's sources), so each argument is read into the configuration class that the command line fills (the names of
arguments are those of its fields, or stand in its metadata), these classes check what they are given, and the process groups
are built for a world of that size over a fake backend."""

import dataclasses
import json
import os
import pathlib
import subprocess

import pytest

transformer_config = pytest.importorskip(
    "megatron.core.transformer.transformer_config", reason="megatron-core is not installed", exc_type=ImportError
)
import torch  # noqa: E402  (megatron-core needs it)
from megatron.core import parallel_state, utils  # noqa: E402
from megatron.core.distributed import DistributedDataParallelConfig  # noqa: E402
from megatron.core.optimizer import OptimizerConfig  # noqa: E402
from megatron.core.transformer.enums import AttnBackend  # noqa: E402
from packaging.version import Version  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
MMOE = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin" / "mmoe"
pytestmark = pytest.mark.skipif(not MMOE.exists(), reason="mmoe is not built")
JOBS = sorted(path.stem for path in (ROOT / "profiles" / "presets" / "jobs").glob("*.json") if path.stem != "demo")

# Arguments of the training script alone: of the model's outside, the data, the schedule. The rest must be fields.
OF_THE_SCRIPT = {
    "--position-embedding-type": str,
    "--rotary-base": float,
    "--max-position-embeddings": int,
    "--untie-embeddings-and-output-weights": None,
    "--make-vocab-size-divisible-by": int,
    "--group-query-attention": None,
    "--seq-length": int,
    "--micro-batch-size": int,
    "--global-batch-size": int,
    "--train-iters": int,
    "--lr-decay-style": str,
    "--lr-warmup-iters": int,
    "--lr-wsd-decay-style": str,
    "--lr-wsd-decay-iters": int,
    "--seed": int,
    "--save-interval": int,
    "--no-create-attention-mask-in-dataloader": None,
}
# Arguments whose field has another name or meaning: what they set.
SETS = {
    "--swiglu": {"gated_linear_unit": True, "activation_func": torch.nn.functional.silu},
    "--squared-relu": {"activation_func": torch.nn.functional.relu},
    "--disable-bias-linear": {"add_bias_linear": False},
    "--bf16": {"bf16": True, "params_dtype": torch.bfloat16, "pipeline_dtype": torch.bfloat16},
    "--fp16": {"fp16": True, "params_dtype": torch.float16, "pipeline_dtype": torch.float16},
    "--accumulate-allreduce-grads-in-fp32": {"grad_reduce_in_fp32": True},
    "--grad-reduce-in-bf16": {"grad_reduce_in_fp32": False},
}
RENAMED = {
    "--num-virtual-stages-per-pipeline-rank": "virtual_pipeline_model_parallel_size",
    "--norm-epsilon": "layernorm_epsilon",
    "--num-experts": "num_moe_experts",
    "--fp8-format": "fp8",
    "--fp4-format": "fp4",
}


def run(*words):
    return subprocess.run([MMOE, *map(str, words)], capture_output=True, text=True, timeout=300)


def fields_of(cls):
    return {field.name: field for field in dataclasses.fields(cls)}


def value_of(field, text):
    if text == "":
        return True
    kind = str(field.type)
    if field.name == "attention_backend":
        return AttnBackend[text]
    if field.name == "recompute_modules":
        return text.split()
    if field.name == "moe_layer_freq":
        return eval(text, {"__builtins__": {}})  # "([0]*3+[1]*58)", as Megatron reads it
    if field.name in ("exp_avg_dtype", "exp_avg_sq_dtype"):
        return {"bf16": torch.bfloat16, "fp32": torch.float32}[text]
    for python_type, name in ((int, "int"), (float, "float")):
        if name in kind:
            return python_type(text)
    return text


def read_arguments(arguments):
    """The fields of each configuration class, and the arguments of the script; an unknown argument is an error."""
    latent = ["--multi-latent-attention", ""] in arguments
    model = transformer_config.MLATransformerConfig if latent else transformer_config.TransformerConfig
    classes = {"model": model, "optimizer": OptimizerConfig, "data_parallel": DistributedDataParallelConfig}
    values, script = {name: {} for name in classes}, {}
    for name, text in arguments:
        if name in OF_THE_SCRIPT:
            script[name] = OF_THE_SCRIPT[name](text) if OF_THE_SCRIPT[name] else True
            if name == "--rotary-base" and latent:
                values["model"]["rotary_base"] = float(text)
            continue
        found = False
        settings = SETS.get(name, {RENAMED.get(name, name[2:].replace("-", "_")): text})
        for group, cls in classes.items():
            for field_name, value in settings.items():
                field = fields_of(cls).get(field_name)
                if field is None:
                    continue
                values[group][field_name] = value_of(field, value) if isinstance(value, str) else value
                found = True
        assert found, f"{name} is no argument of Megatron-Core"
    return model, values, script


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    """Transformer Engine needs a GPU's toolkit to install; the classes only ask for its version."""
    monkeypatch.setattr(utils, "get_te_version", lambda: Version("2.9.0"))


@pytest.fixture
def world():
    """Builds the process groups of rank 0 in a world of any size."""

    def build(size, config):
        torch.distributed.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=config.tensor_model_parallel_size,
            pipeline_model_parallel_size=config.pipeline_model_parallel_size,
            virtual_pipeline_model_parallel_size=config.virtual_pipeline_model_parallel_size,
            context_parallel_size=config.context_parallel_size,
            expert_model_parallel_size=config.expert_model_parallel_size,
            expert_tensor_parallel_size=config.expert_tensor_parallel_size,
            create_gloo_process_groups=False,
        )
        return parallel_state.get_data_parallel_world_size()

    yield build
    parallel_state.destroy_model_parallel()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def check(job, arguments, world):
    """The configuration that the arguments make, key by key against the job."""
    cls, values, script = read_arguments(arguments)
    config = cls(**values["model"])  # checks itself
    OptimizerConfig(**values["optimizer"])
    if values["model"].get("cpu_offloading_num_layers"):  # which turns it on
        cls(**values["model"], cpu_offloading=True)
    if values["optimizer"].get("optimizer_cpu_offload"):
        assert values["optimizer"]["use_precision_aware_optimizer"]
    DistributedDataParallelConfig(**values["data_parallel"])
    model, parallelism, training = job["model"], job["parallelism"], job["training"]
    assert config.num_layers == model["num_layers"]
    assert config.hidden_size == model["hidden_size"]
    assert config.num_attention_heads == model["num_heads"]
    assert config.layernorm_epsilon == model["rms_norm_eps"]
    if model["attention"] == "grouped":
        assert config.num_query_groups == model["num_kv_heads"]
        assert config.kv_channels == model["head_dim"]
    else:
        assert config.qk_head_dim + config.qk_pos_emb_head_dim == model["head_dim"]
    if model["num_experts"]:
        assert config.num_moe_experts == model["num_experts"]
        assert config.moe_ffn_hidden_size == model["expert_hidden_size"]
        frequency = config.moe_layer_freq
        dense = frequency.count(0) if isinstance(frequency, list) else 0
        assert dense == model["num_dense_layers"]
        assert config.expert_model_parallel_size == parallelism["expert"]
        assert config.expert_tensor_parallel_size == parallelism["expert_tensor"]
    assert config.tensor_model_parallel_size == parallelism["tensor"]
    assert config.pipeline_model_parallel_size == parallelism["pipeline"]
    assert config.context_parallel_size == parallelism["context"]
    assert (config.virtual_pipeline_model_parallel_size or 1) == parallelism["virtual_pipeline"]
    assert config.sequence_parallel == (parallelism["sequence"] and parallelism["tensor"] > 1)
    assert script["--seq-length"] == training["seq_len"]
    assert script["--micro-batch-size"] == training["micro_batch_size"]
    assert script["--global-batch-size"] == training["global_batch_size"]
    devices = job["hardware"]["num_devices"]
    per_replica = parallelism["tensor"] * parallelism["pipeline"] * parallelism["context"]
    assert world(devices, config) == devices // per_replica
    return config


def read_script(path):
    """The arguments as bash hands them over: the script runs with a stand-in for torchrun."""
    folder = path.parent / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "torchrun").write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    (folder / "torchrun").chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "MEGATRON": "/megatron"}
    result = subprocess.run(["bash", path], capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("name", JOBS)
def test_every_ready_job_is_accepted(name, tmp_path, world):
    words = ["simulate", "--job", name, "--json", "--megatron-script", tmp_path / "run.sh"]
    job = json.loads(run("simulate", "--job", name, "--print-config").stdout)
    varies = job["elastic"]["k_min"] != job["elastic"]["k_max"] if job["model"]["num_experts"] else False
    if varies:
        refused = run(*words)
        assert refused.returncode == 2 and "--fixed-k" in refused.stderr and len(refused.stderr.splitlines()) == 1
        assert not (tmp_path / "run.sh").exists()
        words += ["--fixed-k", 3]
    result = run(*words)
    assert result.returncode in (0, 3), result.stderr  # a ready job may be at risk of not fitting
    megatron = json.loads(result.stdout)["megatron"]
    assert any(entry["key"] == "elastic.k_min..k_max" for entry in megatron["unexpressed"]) == varies
    config = check(job, megatron["arguments"], world)
    if job["model"]["num_experts"]:
        assert config.moe_router_topk == (3 if varies else job["elastic"]["k_max"])
    handed = read_script(tmp_path / "run.sh")
    for argument, value in megatron["arguments"]:
        at = handed.index(argument)
        assert not value or handed[at + 1 : at + 1 + len(value.split(" "))] == value.split(" ")


LAYOUTS = {
    "mixtral": {
        "model": "mixtral-8x7b",
        "hardware": {"cluster": "dgx-h100", "num_devices": 32},
        "training": {"framework": "megatron_core", "seq_len": 4096, "global_batch_size": 128},
    },
    "dense": {
        "model": "llama3-8b",
        "hardware": {"cluster": "dgx-h100", "num_devices": 16},
        "training": {"framework": "megatron_core", "seq_len": 8192, "global_batch_size": 64},
    },
    "latent": {
        "model": "deepseek-v2-lite",
        "hardware": {"cluster": "dgx-h100", "num_devices": 16},
        "training": {"framework": "megatron_core", "seq_len": 4096, "global_batch_size": 64},
    },
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_a_plan_are_accepted(name, tmp_path, world):
    """Each of the best layouts as a job of its own, and the best as plan itself writes it."""
    (tmp_path / "job.json").write_text(json.dumps(LAYOUTS[name]))
    words = ("--top", 12, "--json", "--out", tmp_path / "best.json", "--megatron-script", tmp_path / "best.sh")
    result = run("plan", "--job", tmp_path / "job.json", *words)
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert len(plan["candidates"]) > 3
    best = json.loads((tmp_path / "best.json").read_text())
    check(best, plan["megatron"]["arguments"], world)
    # This trainer's job file is the candidate: the same time and memory, to the last bit.
    again = json.loads(run("simulate", "--job", tmp_path / "best.json", "--json").stdout)
    assert again["throughput"]["step_seconds"] == plan["candidates"][0]["throughput"]["step_seconds"]
    assert again["memory"]["peak_reserved_bytes"] == plan["candidates"][0]["memory"]["peak_reserved_bytes"]
    for candidate in plan["candidates"]:
        parallel_state.destroy_model_parallel()
        torch.distributed.destroy_process_group()
        job = best | {key: candidate[key] for key in ("parallelism", "training")}
        (tmp_path / "candidate.json").write_text(json.dumps(job))
        script = ("--megatron-script", tmp_path / "candidate.sh")
        result = run("simulate", "--job", tmp_path / "candidate.json", "--json", *script)
        assert result.returncode == 0, result.stderr
        check(job, json.loads(result.stdout)["megatron"]["arguments"], world)


def test_what_has_no_word_is_listed(tmp_path):
    words = ["--parallelism.schedule", "zero_bubble", "--parallelism.virtual_pipeline", 1]
    words += ["--training.recompute", "attention", "--model.qk_norm", "full", "--hardware.allocator", "expandable_segments"]
    script = tmp_path / "run.sh"
    result = run("simulate", "--job", "mixtral-8x7b-h100-64", "--json", "--megatron-script", script, *words)
    assert result.returncode in (0, 3), result.stderr
    listed = {entry["key"] for entry in json.loads(result.stdout)["megatron"]["unexpressed"]}
    assert listed >= {"parallelism.schedule", "training.recompute", "model.qk_norm"}
    text = script.read_text()
    for key in listed:
        assert f"#   {key} = " in text and f"{key} = " in result.stderr
    assert "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True" in text


def test_a_k_without_a_script_or_out_of_range_is_refused(tmp_path):
    job = ("simulate", "--job", "mixtral-8x7b-h100-64")
    for words in (("--fixed-k", 2), ("--megatron-script", tmp_path / "x.sh", "--fixed-k", 9)):
        result = run(*job, *words)
        assert result.returncode == 2 and "--fixed-k" in result.stderr
    assert not (tmp_path / "x.sh").exists()
