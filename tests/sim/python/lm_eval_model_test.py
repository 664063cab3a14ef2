"""lm-eval's requests through our adapter against the log-softmax of the logits, token by token, at k and at a plan."""

import json
import os
import pathlib
import sys

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval[hf] is not installed", exc_type=ImportError)
from lm_eval.api.instance import Instance  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))
if not (BUILD / "python" / "mmoe").is_dir():
    pytest.skip("the module mmoe was not built (MMOE_PYTHON is off)", allow_module_level=True)
sys.path.insert(0, str(BUILD / "python"))
from mmoe.k_plan import moe_routers  # noqa: E402
from mmoe.lm_eval_model import ByteTokenizer, MmoeLM  # noqa: E402

TEXT = "In the beginning — καὶ Ċ <|end|x>\n\n"
CHOICES = [{"k": 1}, {"k": 3}, {"plan": [1, 4, 2]}, {}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random OLMoE of bytes as `mmoe export` writes it, as far as lm-eval sees it."""
    path = tmp_path_factory.mktemp("exported")
    torch.manual_seed(1)
    config = transformers.OlmoeConfig(
        vocab_size=256,
        hidden_size=32,
        num_attention_heads=4,
        num_hidden_layers=3,
        intermediate_size=24,
        num_experts=6,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        eos_token_id=None,
        pad_token_id=None,
        initializer_range=0.3,  # far from uniform, so that k matters
    )
    transformers.OlmoeForCausalLM(config).save_pretrained(path)
    (path / "k_plan.json").write_text(json.dumps({"k_per_layer": [1, 4, 2]}))
    return path


def adapter(folder, **options):
    return MmoeLM(str(folder), tokenizer="bytes", device="cpu", dtype="float32", batch_size=4, **options)


def requests(kind, arguments):
    return [Instance(kind, {}, a, i) for i, a in enumerate(arguments)]


def log_probabilities(folder, choice, tokens):
    """Of every next token: the stock class with its routers set by hand."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    routers = moe_routers(model)
    for router, k in zip(routers, choice.get("plan", [choice.get("k", 2)] * len(routers))):
        router.top_k = k
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].log_softmax(-1)


def test_the_byte_tokenizer_is_the_text():
    tokenizer = ByteTokenizer()
    assert tokenizer(TEXT)["input_ids"] == list(TEXT.encode())
    assert tokenizer.decode(list(TEXT.encode())) == TEXT
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 255
    assert tokenizer.decode([255, 97]) == "<|end|>a" and tokenizer.decode([255, 97], skip_special_tokens=True) == "a"


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_log_likelihoods_are_those_of_the_model(folder, choice):
    pairs = [("In the", " beginning"), ("a", "b"), ("was the word", " —\n")]
    found = adapter(folder, **choice).loglikelihood(requests("loglikelihood", pairs), disable_tqdm=True)
    for (context, continuation), (score, is_greedy) in zip(pairs, found):
        tokens, first = list((context + continuation).encode()), len(context.encode())
        table = log_probabilities(folder, choice, tokens[:-1])
        expected = sum(table[i - 1, tokens[i]].item() for i in range(first, len(tokens)))
        # fp32 logits near 10, sums of 32 and 24 terms in three layers, padded batches: 1e-5 a token is 100 roundings.
        assert score == pytest.approx(expected, abs=1e-4 * (len(tokens) - first))
        assert is_greedy == all(table[i - 1].argmax() == tokens[i] for i in range(first, len(tokens)))


def test_a_plan_is_read_from_the_folder(folder):
    pair = [("In the", " beginning")]
    given = adapter(folder, plan=[1, 4, 2]).loglikelihood(requests("loglikelihood", pair), disable_tqdm=True)
    read = adapter(folder, plan=str(folder)).loglikelihood(requests("loglikelihood", pair), disable_tqdm=True)
    other = adapter(folder, k=2).loglikelihood(requests("loglikelihood", pair), disable_tqdm=True)
    assert given == read and read != other


def test_rolling_log_likelihood_begins_behind_a_document(folder):
    text = "In the beginning was the word"
    (found,) = adapter(folder, k=3).loglikelihood_rolling(
        requests("loglikelihood_rolling", [(text,)]), disable_tqdm=True
    )
    tokens = [ord("\n"), *text.encode()]
    table = log_probabilities(folder, {"k": 3}, tokens[:-1])
    assert found == pytest.approx(sum(table[i - 1, tokens[i]].item() for i in range(1, len(tokens))), abs=1e-2)


def test_generation_is_greedy_at_k(folder):
    arguments = [("In the", {"until": ["<|end|>"], "max_gen_toks": 12, "do_sample": False})]
    (text,) = adapter(folder, k=3).generate_until(requests("generate_until", arguments), disable_tqdm=True)
    tokens = list(b"In the")
    for _ in range(12):
        tokens.append(int(log_probabilities(folder, {"k": 3}, tokens)[-1].argmax()))
        if tokens[-1] == 255:
            tokens.pop()
            break
    assert text == bytes(tokens[6:]).decode(errors="replace")


def test_k_and_plan_exclude_each_other(folder):
    with pytest.raises(ValueError, match="k or plan"):
        adapter(folder, k=2, plan=[1, 1, 1])
    with pytest.raises(ValueError, match="k = 7"):
        adapter(folder, k=7)
