"""Models of `transformers` with random weights against ours: logits of imported models, and of exported ones opened by
the stock classes, at several k and at a plan of k per layer."""

import json
import os
import pathlib
import random
import shutil
import subprocess

import numpy as np
import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin"
pytestmark = pytest.mark.skipif(not (BIN / "mmoe-train").exists(), reason="mmoe-train is not built")

SEQ_LEN, VOCAB = 48, 300  # bytes and their special tokens take 257 or more
COMMON = dict(
    vocab_size=VOCAB,
    hidden_size=64,
    num_attention_heads=4,
    max_position_embeddings=SEQ_LEN,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
MOE = dict(num_experts_per_tok=2)
MODELS = {
    "olmoe": lambda: transformers.OlmoeConfig(
        **COMMON, **MOE, num_hidden_layers=3, num_key_value_heads=2, intermediate_size=40, num_experts=10
    ),
    "olmoe_normalised": lambda: transformers.OlmoeConfig(
        **COMMON, **MOE, num_hidden_layers=2, intermediate_size=24, num_experts=6, norm_topk_prob=True
    ),
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **COMMON,
        **MOE,
        num_hidden_layers=3,
        num_key_value_heads=2,
        head_dim=24,
        intermediate_size=96,
        moe_intermediate_size=40,
        num_experts=10,
        norm_topk_prob=True,
        mlp_only_layers=[0],
    ),
    "qwen2_moe": lambda: transformers.Qwen2MoeConfig(
        **COMMON,
        **MOE,
        num_hidden_layers=3,
        num_key_value_heads=2,
        intermediate_size=96,
        moe_intermediate_size=40,
        shared_expert_intermediate_size=56,
        num_experts=10,
    ),
    "mixtral": lambda: transformers.MixtralConfig(
        **COMMON, **MOE, num_hidden_layers=3, num_key_value_heads=2, intermediate_size=40, num_local_experts=10
    ),
    "llama": lambda: transformers.LlamaConfig(
        **COMMON, num_hidden_layers=3, num_key_value_heads=2, intermediate_size=96, tie_word_embeddings=True
    ),
    "qwen2": lambda: transformers.Qwen2Config(
        **COMMON, num_hidden_layers=2, num_key_value_heads=2, intermediate_size=96
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        **COMMON, num_hidden_layers=2, num_key_value_heads=2, head_dim=24, intermediate_size=96
    ),
}
MOE_MODELS = [name for name in MODELS if name not in ("llama", "qwen2", "qwen3")]


def run(*words):
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=300, env=environment)


def done(*words):
    result = run(BIN / "mmoe", *words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*words):
    result = run(BIN / "mmoe", *words)
    assert result.returncode == 2, result
    assert result.stdout == "" and len(result.stderr.splitlines()) == 1, result
    return result.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Token files of random text."""
    folder = tmp_path_factory.mktemp("data")
    generator = random.Random(1)
    text = "\n\n".join("".join(generator.choices("abcdefgh ijklmnop.", k=200)) for _ in range(40))
    (folder / "text.txt").write_text(text)
    done("data", "build", "--text", folder / "text.txt", "--tokenizer", "bytes", "--out", folder / "tokens")
    return folder / "tokens"


def make_model(name, dtype=torch.float32):
    """Weights spread widely enough that routing is decided and attention is not flat."""
    torch.manual_seed(7)
    config = MODELS[name]()
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() > 1:
                value.normal_(0, 1.5 / value.shape[-1] ** 0.5)
            elif key.endswith("bias"):
                value.normal_(0, 0.5)
            else:
                value.uniform_(0.5, 1.5)
    return model.to(dtype).eval()


def open_exported(folder, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def k_plan_loader(folder):
    """The loader that was exported beside the model."""
    scope = {}
    exec((pathlib.Path(folder) / "k_plan.py").read_text(), scope)
    return scope["apply_k_plan"], scope["moe_routers"]


def set_k(model, k):
    for module in model.modules():
        if isinstance(getattr(module, "top_k", None), int):
            module.top_k = k


def their_logits(model, tokens):
    with torch.no_grad():
        return model(torch.tensor(tokens.astype(np.int64))[None]).logits[0].float().numpy()


def our_logits(checkpoint, data, folder, *flags):
    """Tokens of the first window, and logits by name."""
    path = folder / "logits.safetensors"
    done("eval", "--checkpoint", checkpoint, "--data", data, "--max-sequences", 1, "--logits", path, *flags)
    tensors = {key: value.numpy() for key, value in safetensors_torch.load_file(path).items()}
    return tensors.pop("tokens"), tensors


def relative_errors(logits, exact):
    """Of each token, in the Euclidean norm."""
    return np.linalg.norm(logits - exact, axis=1) / np.linalg.norm(exact, axis=1)


# The longest path of sums: in each layer four products of up to 96 terms, attention over 48 tokens, the head's 64; some
# 30 further roundings a layer. Errors grow at most as their number (Higham 2002, section 3.1), on both sides.
def fp32_bound(layers):
    return 2 * 2.0**-24 * (layers * (4 * 96 + 48 + 30) + 64)


def import_model(name, folder, dtype=torch.float32):
    model = make_model(name, dtype)
    model.save_pretrained(folder / "theirs")
    done("import", "--from", folder / "theirs", "--out", folder / "checkpoint")
    return model, folder / "checkpoint"


def k_flags(name):
    return ("--k", "1,2,6") if name in MOE_MODELS else ()


def set_k_of(model, key):
    """`key`: "logits_k6"."""
    if hasattr(model.config, "num_experts_per_tok"):
        set_k(model, int(key.removeprefix("logits_k")))


@pytest.mark.parametrize("name", MODELS)
def test_imported_logits_equal_theirs_in_fp32(name, data, tmp_path):
    model, checkpoint = import_model(name, tmp_path)
    tokens, logits = our_logits(checkpoint, data, tmp_path, *k_flags(name))
    assert len(logits) == (3 if name in MOE_MODELS else 1)
    for key, ours in logits.items():
        set_k_of(model, key)
        errors = relative_errors(ours, their_logits(model, tokens))
        assert errors.max() <= fp32_bound(model.config.num_hidden_layers), key


@pytest.mark.parametrize("name", MODELS)
def test_imported_logits_are_as_exact_as_theirs_in_bf16(name, data, tmp_path):
    """Against the same bf16 weights computed in fp32. A rounding may change which expert a token takes, so the median
    token counts; both sides round at the same places, so their errors differ by chance only. Medians of 48 tokens
    scatter by some 15 %, those of all three k by 15 % / sqrt(3), the ratio of two of them by 12 %: less than half as
    much again is 3.3 times that scatter (one in 2,000). Of one k alone it scatters by 21 %: twice as much is as rare."""
    model, checkpoint = import_model(name, tmp_path, torch.bfloat16)
    assert json.loads((checkpoint / "state.json").read_text())["job"]["training"]["precision"] == "bf16"
    exact_model = open_exported(tmp_path / "theirs", torch.float32)
    tokens, logits = our_logits(checkpoint, data, tmp_path, *k_flags(name))
    our_errors, their_errors = [], []
    for key, ours in logits.items():
        set_k_of(model, key)
        set_k_of(exact_model, key)
        exact = their_logits(exact_model, tokens)
        our_errors.append(relative_errors(ours, exact))
        their_errors.append(relative_errors(their_logits(model, tokens), exact))
        assert np.median(our_errors[-1]) <= 2 * np.median(their_errors[-1]), key
    assert np.median(our_errors) <= 1.5 * np.median(their_errors)


@pytest.mark.parametrize("name", MODELS)
def test_exported_models_have_the_bits_that_were_imported(name, tmp_path):
    for dtype in (torch.float32, torch.bfloat16):
        folder = tmp_path / str(dtype)
        folder.mkdir()
        model, checkpoint = import_model(name, folder, dtype)
        # So small a limit makes several files and an index.
        done("export", "--checkpoint", checkpoint, "--out", folder / "exported", "--max-shard-bytes", 100000)
        assert (folder / "exported" / "model.safetensors.index.json").exists()
        exported = open_exported(folder / "exported", dtype)
        assert type(exported) is type(model)
        theirs, ours = model.state_dict(), exported.state_dict()
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[key], ours[key]) for key in theirs)
        # Several files are read as one is.
        done("import", "--from", folder / "exported", "--out", folder / "again")
        first, again = (safetensors_torch.load_file(c / "weights.safetensors") for c in (checkpoint, folder / "again"))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", MOE_MODELS)
def test_a_plan_applied_by_the_loader_gives_our_logits_at_that_plan(name, data, tmp_path):
    model, checkpoint = import_model(name, tmp_path)
    layers = model.config.num_hidden_layers - len(getattr(model.config, "mlp_only_layers", []))
    plan = [1, 5, 2][:layers]
    (tmp_path / "allocation.json").write_text(json.dumps({"k_per_layer": plan}))
    done("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--allocation", tmp_path / "allocation.json")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_experts"] == config["num_local_experts"] == make_model(name).config.num_experts
    assert config["moe_k_plan"] == plan
    assert config["num_experts_per_tok"] == round(sum(plan) / layers)
    assert isinstance(config["norm_topk_prob"], bool)
    tokens, logits = our_logits(checkpoint, data, tmp_path, "--allocation", tmp_path / "allocation.json")
    exported = open_exported(tmp_path / "out", torch.float32)
    uniform = their_logits(exported, tokens)
    apply_k_plan, moe_routers = k_plan_loader(tmp_path / "out")
    assert apply_k_plan(exported, tmp_path / "out") == plan
    assert [router.top_k for router in moe_routers(exported)] == plan
    bound = fp32_bound(model.config.num_hidden_layers)
    assert relative_errors(logits["logits"], their_logits(exported, tokens)).max() <= bound
    assert relative_errors(logits["logits"], uniform).max() > 100 * bound  # the plan does matter
    with pytest.raises(ValueError, match="routers"):
        apply_k_plan(exported, plan + [1])
    with pytest.raises(ValueError, match="k = 11"):
        apply_k_plan(exported, [11] * layers)


OURS = {
    "plain": {},
    "selected": {"gate_normalization": "selected", "num_kv_heads": 2},
    "full_norms": {"qk_norm": "full"},
    "per_head_norms": {"qk_norm": "per_head", "num_dense_layers": 1, "dense_hidden_size": 80, "num_layers": 3},
    "gated_shared_expert": {"shared_expert_hidden_size": 24, "shared_expert_gate": True, "qkv_bias": True},
    "tied": {"tie_embeddings": True, "gate_normalization": "selected"},
}


@pytest.mark.parametrize("name", OURS)
def test_a_model_of_ours_is_opened_by_a_stock_class(name, data, tmp_path):
    """Trained two steps, so that its weights are no initial ones."""
    model = dict(hidden_size=64, num_layers=2, num_heads=4, vocab_size=VOCAB, num_experts=8, expert_hidden_size=24)
    job = {
        "model": model | OURS[name],
        "hardware": {"device": "cpu"},
        "training": {"seq_len": SEQ_LEN, "micro_batch_size": 2, "global_batch_size": 2, "precision": "fp32"},
        "elastic": {"k_min": 1, "k_max": 6},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done("train", "--job", tmp_path / "job.json", "--data", data, "--out", tmp_path / "run", "--steps", 2)
    checkpoint = tmp_path / "run" / "checkpoints" / "step_2"
    tokens, logits = our_logits(checkpoint, data, tmp_path, "--k", "1,2,6")
    done("export", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    exported = open_exported(tmp_path / "out", torch.float32)
    for key, ours in logits.items():
        set_k_of(exported, key)
        assert relative_errors(ours, their_logits(exported, tokens)).max() <= fp32_bound(3), key


@pytest.mark.parametrize(
    "model", [{"gate_normalization": "reference"}, {"shared_expert_hidden_size": 24}], ids=["reference", "shared"]
)
def test_what_no_stock_class_computes_is_refused(model, data, tmp_path):
    sizes = dict(hidden_size=32, num_layers=1, num_heads=2, vocab_size=VOCAB, num_experts=4, expert_hidden_size=16)
    job = {
        "model": sizes | model,
        "hardware": {"device": "cpu"},
        "training": {"seq_len": SEQ_LEN, "micro_batch_size": 1, "global_batch_size": 1, "precision": "fp32"},
        "elastic": {"k_min": 1, "k_max": 2},
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done("train", "--job", tmp_path / "job.json", "--data", data, "--out", tmp_path / "run", "--steps", 1)
    line = refused("export", "--checkpoint", tmp_path / "run" / "checkpoints" / "step_1", "--out", tmp_path / "out")
    assert "no stock class" in line
    assert not (tmp_path / "out").exists()


def test_copied_experts_compute_what_the_dense_model_does(data, tmp_path):
    model, _ = import_model("llama", tmp_path)
    flags = ("--from", tmp_path / "theirs", "--experts", 6)
    done("import", *flags, "--out", tmp_path / "copied", "--top-k", 3)
    tokens, logits = our_logits(tmp_path / "copied", data, tmp_path, "--k", "1,3,6")
    for key, ours in logits.items():  # equal experts whose weights add up to one
        assert relative_errors(ours, their_logits(model, tokens)).max() <= fp32_bound(3), key
    done("import", *flags, "--out", tmp_path / "noisy", "--noise", 0.1)
    copied, noisy = (safetensors_torch.load_file(tmp_path / c / "weights.safetensors") for c in ("copied", "noisy"))
    experts = "layers.1.experts.gate_up"
    difference = (noisy[experts] - copied[experts]) / copied[experts].square().mean().sqrt()
    # The spread of n normal values is known to 1 / sqrt(2 n): 6 x 192 x 64 values.
    assert difference.std().item() == pytest.approx(0.1, rel=5 / (2 * 73728) ** 0.5 + 0.01)
    assert not torch.equal(noisy[experts][0], noisy[experts][1])


def test_split_experts_are_slices_that_add_up_to_the_dense_layer(tmp_path):
    model, _ = import_model("llama", tmp_path)
    done("import", "--from", tmp_path / "theirs", "--experts", 6, "--split", 3, "--out", tmp_path / "split")
    weights = safetensors_torch.load_file(tmp_path / "split" / "weights.safetensors")
    theirs = model.model.layers[1].mlp
    gate_up, down = weights["layers.1.experts.gate_up"], weights["layers.1.experts.down"]
    assert gate_up.shape == (6, 64, 64) and down.shape == (6, 64, 32)
    assert torch.equal(torch.cat([gate_up[e, :32] for e in range(3)]), theirs.gate_proj.weight)
    assert torch.equal(torch.cat([gate_up[e, 32:] for e in range(3)]), theirs.up_proj.weight)
    assert torch.equal(torch.cat([down[e] for e in range(3)], dim=1), theirs.down_proj.weight * 3)
    assert torch.equal(gate_up[:3], gate_up[3:]) and torch.equal(down[:3], down[3:])


def edit_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_tensors(folder, change):
    tensors = safetensors_torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors_torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def point_outside(folder):
    names = safetensors_torch.load_file(folder / "model.safetensors").keys()
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {name: "../outside.safetensors" for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def lose_a_shard(folder):
    names = list(safetensors_torch.load_file(folder / "model.safetensors").keys())
    index = {"weight_map": {name: "model.safetensors" for name in names} | {names[0]: "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


GATE = "model.layers.0.mlp.experts.3.gate_proj.weight"
BROKEN = {
    "other_architecture": (lambda f: edit_config(f, model_type="bert"), ["config.json", "bert"]),
    "scaled_positions": (
        lambda f: edit_config(f, rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}),
        ["rope_parameters", "yarn"],
    ),
    "missing_config": (lambda f: (f / "config.json").unlink(), ["config.json"]),
    "missing_weights": (lambda f: (f / "model.safetensors").unlink(), ["model.safetensors"]),
    "missing_shard": (lose_a_shard, ["model-00002.safetensors"]),
    "outside_the_folder": (point_outside, ["../outside.safetensors"]),
    "missing_tensor": (lambda f: edit_tensors(f, lambda t: t.pop(GATE)), [GATE]),
    "left_over_tensor": (
        lambda f: edit_tensors(f, lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)})),
        ["q_proj.bias"],
    ),
    "wrong_shape": (lambda f: edit_tensors(f, lambda t: t.update({GATE: torch.zeros(39, 64)})), [GATE, "[39, 64]"]),
    "no_numbers": (
        lambda f: edit_tensors(f, lambda t: t.update({GATE: torch.zeros(40, 64, dtype=torch.int8)})),
        [GATE, "I8"],
    ),
    "truncated": (lambda f: os.truncate(f / "model.safetensors", 5000), ["model.safetensors"]),
    "not_safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"PK\x03\x04" + b"x" * 99), ["pickle"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_folder_is_refused_by_name(name, tmp_path):
    make_model("olmoe").save_pretrained(tmp_path / "theirs")
    change, words = BROKEN[name]
    change(tmp_path / "theirs")
    line = refused("import", "--from", tmp_path / "theirs", "--out", tmp_path / "checkpoint")
    for word in words:
        assert word in line
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name", ["olmoe", "qwen3_moe", "mixtral"])
def test_the_most_likely_text_is_that_of_transformers(name, data, tmp_path):
    """Token by token from the cache of keys and values, on both sides; the vocabulary's 44 ids beyond the bytes are
    never made by us, so the prompt is one after which they are not the most likely either."""
    model, checkpoint = import_model(name, tmp_path)
    set_k(model, 3)
    with torch.no_grad():
        model.get_output_embeddings().weight[256:] = 0
    model.save_pretrained(tmp_path / "masked")
    done("import", "--from", tmp_path / "masked", "--out", checkpoint)
    prompt = "abc defg"
    text = done("generate", "--checkpoint", checkpoint, "--data", data, "--prompt", prompt, "--temperature", 0, "--k", 3,
                "--max-tokens", 24, "--json")
    tokens = torch.tensor([list(prompt.encode())])
    with torch.no_grad():
        theirs = model.generate(tokens, max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0)
    expected = theirs[0, len(prompt) :].tolist()
    assert all(token < 256 for token in expected)
    assert json.loads(text)["tokens"] == expected


def test_tokenizer_files_travel_and_nothing_is_overwritten(tmp_path):
    model, checkpoint = import_model("olmoe", tmp_path)
    (tmp_path / "theirs" / "tokenizer.json").write_text("{}")
    done("import", "--from", tmp_path / "theirs", "--out", checkpoint)  # a checkpoint may be replaced
    done("export", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"
    assert "not empty" in refused("export", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert "is not a checkpoint" in refused("import", "--from", tmp_path / "theirs", "--out", tmp_path / "out")


def test_recipes_name_the_scalar_override_of_each_server(tmp_path):
    _, checkpoint = import_model("mixtral", tmp_path)
    text = done("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--k", 3, "--recipes")
    assert "--hf-overrides '{\"num_experts_per_tok\": 3}'" in text
    assert "--json-model-override-args '{\"num_experts_per_tok\": 3}'" in text
    assert "--override-kv llama.expert_used_count=int:3" in text
    assert "k_plan" in text
