"""A model of over a billion weights through `mmoe import`, `eval` and `export`, beside transformers: memory and logits.

Makes an OLMoE with random weights by transformers, imports it, compares the logits of `mmoe eval` at several k with those of
the stock class, exports it and compares every bit of the export with the original. Memory is the largest resident size of
each command. Needs torch and transformers (`source build/env.sh`), 20 GB of disk and 14 GiB of memory for transformers:

  python3 analysis/large_checkpoint.py --bin build/bin --work build/large --page analysis/large_checkpoint.md
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import sys

from experiment import run, write_section

HEADING = "## Results"
KS = (1, 2, 8)
SEQ_LEN = 64
SIZES = dict(hidden_size=1024, num_hidden_layers=8, num_attention_heads=16, num_key_value_heads=16, intermediate_size=704,
             num_experts=64, num_experts_per_tok=8, vocab_size=50304, max_position_embeddings=SEQ_LEN)


# A process begins with the largest size of the one that started it: a small one must.
MEASURED = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)"""


def peak_gib(*words):
    """Largest resident GiB of a command; SystemExit where it fails."""
    return int(run(sys.executable, "-I", "-c", MEASURED, *words).splitlines()[-1]) / 2**20  # of KiB


def make_model(folder, dtype, sizes):
    """Spread widely enough that routing is decided and attention is not flat."""
    import torch
    import transformers

    torch.manual_seed(3)
    with torch.device("meta"):
        model = transformers.OlmoeForCausalLM(transformers.OlmoeConfig(**sizes, eos_token_id=None, pad_token_id=None))
    model = model.to(dtype).to_empty(device="cpu")
    with torch.no_grad():
        for value in model.parameters():
            if value.dim() > 1:
                value.normal_(0, 1.5 / value.shape[-1] ** 0.5)
            else:
                value.uniform_(0.5, 1.5)
    model.save_pretrained(folder, max_shard_size="1GB")
    return sum(value.numel() for value in model.parameters())


def their_logits(folder, dtype, tokens):
    import torch
    import transformers

    options = dict(dtype=dtype, attn_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    found = {}
    for k in KS:
        for module in model.modules():
            if isinstance(getattr(module, "top_k", None), int):
                module.top_k = k
        with torch.no_grad():
            found[k] = model(tokens.long()[None]).logits[0].float()
    return found


def relative_errors(logits, exact):
    """Of each token, in the Euclidean norm."""
    return (logits.float() - exact).norm(dim=1) / exact.norm(dim=1)


def same_bits(one, other):
    """Whether two folders hold the same tensors under the same names."""
    import safetensors
    import torch

    def places(folder):
        found = {}
        for path in sorted(folder.glob("*.safetensors")):
            file = safetensors.safe_open(path, "pt")
            found |= {name: file for name in file.keys()}
        return found

    ours, theirs = places(one), places(other)
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name].get_tensor(name), theirs[name].get_tensor(name)) for name in ours
    )


def fp32_bound(sizes):
    """The longest path of sums, as in tests/train/interchange/transformers_test.py: errors grow at most as their number."""
    width = max(sizes["hidden_size"], sizes["intermediate_size"])
    return 2 * 2.0**-24 * (sizes["num_hidden_layers"] * (4 * width + SEQ_LEN + 30) + sizes["hidden_size"])


def measure(arguments, name, sizes=SIZES):
    """One row: of fp32, the largest relative error of a token's logits; of bf16, the median error over theirs."""
    import safetensors.torch
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    folder = arguments.work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mmoe = arguments.bin / "mmoe"
    row = {"precision": name, "parameters": make_model(folder / "theirs", dtype, sizes)}
    draw = random.Random(1)
    (folder / "text.txt").write_text("\n\n".join("".join(draw.choices("abcdefgh ijklmnop.", k=200)) for _ in range(40)))
    peak_gib(mmoe, "data", "build", "--text", folder / "text.txt", "--out", folder / "tokens")
    row["import_gib"] = peak_gib(mmoe, "import", "--from", folder / "theirs", "--out", folder / "checkpoint")
    words = ["--data", folder / "tokens", "--max-sequences", 1, "--seq-len", SEQ_LEN, "--k", ",".join(map(str, KS))]
    words += ["--logits", folder / "logits.safetensors"]
    row["eval_gib"] = peak_gib(mmoe, "eval", "--checkpoint", folder / "checkpoint", *words)
    row["export_gib"] = peak_gib(mmoe, "export", "--checkpoint", folder / "checkpoint", "--out", folder / "exported")
    row["same_bits"] = same_bits(folder / "theirs", folder / "exported")
    shutil.rmtree(folder / "checkpoint")
    shutil.rmtree(folder / "theirs")  # what follows opens the export, which holds the same or shows that it does not
    ours = safetensors.torch.load_file(folder / "logits.safetensors")
    exact = their_logits(folder / "exported", torch.float32, ours["tokens"])
    errors = {k: relative_errors(ours[f"logits_k{k}"], exact[k]) for k in KS}
    if name == "fp32":
        row["error"] = max(found.max().item() for found in errors.values())
        row["bound"] = fp32_bound(sizes)
    else:
        theirs = their_logits(folder / "exported", dtype, ours["tokens"])
        row["error"] = max((errors[k].median() / relative_errors(theirs[k], exact[k]).median()).item() for k in KS)
        row["bound"] = 1.5
    shutil.rmtree(folder)
    return row


def page(rows):
    """The Markdown below HEADING."""
    lines = ["| weights | parameters | import | eval | export | logits at k = 1, 2, 8 | bound | export has the bits imported |"]
    lines.append("|---" * 8 + "|")
    for row in rows:
        memory = " | ".join(f"{row[f'{command}_gib']:.2f} GiB" for command in ("import", "eval", "export"))
        error = f"{row['error']:.1e} off" if row["precision"] == "fp32" else f"{row['error']:.2f} x their error"
        bound = f"{row['bound']:.1e}" if row["precision"] == "fp32" else f"{row['bound']:.2f}"
        bits = "yes" if row["same_bits"] else "no"
        lines.append(f"| {row['precision']} | {row['parameters'] / 1e9:.2f} B | {memory} | {error} | {bound} | {bits} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of mmoe and mmoe-train")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the models, removed again")
    parser.add_argument("--page", type=pathlib.Path, help=f"Markdown whose part under {HEADING!r} is written")
    arguments = parser.parse_args()
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    rows = [measure(arguments, name) for name in ("fp32", "bf16")]
    print(json.dumps(rows, indent=2))
    lines = page(rows)
    print("\n".join(lines))
    if arguments.page:
        write_section(arguments.page, HEADING, lines)


if __name__ == "__main__":
    main()
