"""How fast text becomes tokens and checkpoints are loaded, beside other commands on the same files; what data costs a step.

Every figure is a ratio of two measurements that take turns in this run, medians over --repeat of them:

- tokens: `mmoe data build` with a given SentencePiece model against `spm_encode` (Debian's package sentencepiece) with it,
  on one thread each, and with all threads;
- loading: mmoe-loading-bench, a checkpoint's tensors against read() of the same file, from the page cache;
- import: `mmoe import` of a Hugging Face folder against dd of its weights, both until the copy is on disk (fsync), ours
  less the time that the program takes to start (LibTorch is loaded);
- data: of a training run's step time the share that its samples take (data_seconds of metrics.jsonl).

  python3 analysis/io_speed.py --bin build/bin --text build/demo/bible.txt --page analysis/io_speed.md
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import tempfile
import time

from experiment import run, write_section

HEADING = "## Results"
VOCAB_SIZE = 8000
JOB = {
    "model": {"hidden_size": 512, "num_layers": 4, "num_heads": 8, "vocab_size": VOCAB_SIZE, "num_experts": 16,
              "expert_hidden_size": 512},
    "hardware": {"device": "cpu"},
    "training": {"seq_len": 128, "micro_batch_size": 2, "global_batch_size": 4, "precision": "fp32"},
    "elastic": {"k_min": 1, "k_max": 4},
}
STEPS = 12


def seconds(*words):
    start = time.perf_counter()
    run(*words, progress=False)
    return time.perf_counter() - start


def alternating(repeat, measurements):
    """Median seconds of each of the named functions, which take turns."""
    times = {name: [] for name in measurements}
    for _ in range(repeat):
        for name, measure in measurements.items():
            times[name].append(measure())
    return {name: statistics.median(found) for name, found in times.items()}


def tokens(programs, text, folder, repeat):
    build = ["data", "build", "--text", text, "--tokenizer", "sentencepiece"]
    run(programs / "mmoe", *build, "--vocab-size", VOCAB_SIZE, "--out", folder / "tokens", progress=False)
    model = folder / "tokens.model"
    ours = [programs / "mmoe", *build, "--tokenizer-model", model, "--out"]
    theirs = ["spm_encode", f"--model={model}", "--output_format=id", f"--input={text}", f"--output={folder / 'ids.txt'}"]
    found = alternating(
        repeat,
        {
            "theirs": lambda: seconds(*theirs),
            "one": lambda: seconds(*ours, folder / "again", "--threads", 1),
            "all": lambda: seconds(*ours, folder / "again", "--threads", os.cpu_count()),
        },
    )
    size = text.stat().st_size
    return {
        "name": "tokens: MB of text a second, `mmoe data build` on one thread against `spm_encode`",
        "ours": size / found["one"] / 1e6,
        "theirs": size / found["theirs"] / 1e6,
    }, {
        "name": f"the same, {os.cpu_count()} threads",
        "ours": size / found["all"] / 1e6,
        "theirs": size / found["theirs"] / 1e6,
    }


def loading(programs, repeat):
    words = [f"--benchmark_repetitions={repeat}", "--benchmark_enable_random_interleaving=true", "--benchmark_format=json"]
    result = json.loads(run(programs / "mmoe-loading-bench", *words, progress=False))
    rates = {"load_checkpoint": [], "plain_read": []}
    for entry in result["benchmarks"]:
        if entry["run_type"] == "iteration":
            rates[entry["run_name"].split("/")[0]].append(entry["bytes_per_second"] / 1e9)
    return {
        "name": "loading: GB a second, tensors of a checkpoint against read()",
        "ours": statistics.median(rates["load_checkpoint"]),
        "theirs": statistics.median(rates["plain_read"]),
    }


def training(programs, folder):
    (folder / "job.json").write_text(json.dumps(JOB))
    words = ["train", "--job", folder / "job.json", "--data", folder / "tokens", "--out", folder / "run", "--steps", STEPS]
    run(programs / "mmoe", *words, progress=False)
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()[1:]]
    share = statistics.median(line["data_seconds"] / line["seconds"] for line in lines)
    return {"name": "data: share of a step's time, median of a run", "share": share}


def importing(programs, folder, repeat):
    checkpoint = folder / "run" / "checkpoints" / f"step_{STEPS}"
    run(programs / "mmoe", "export", "--checkpoint", checkpoint, "--out", folder / "hf", progress=False)
    weights = sorted((folder / "hf").glob("*.safetensors"))
    size = sum(path.stat().st_size for path in weights)

    def ours():
        shutil.rmtree(folder / "imported", ignore_errors=True)
        return seconds(programs / "mmoe", "import", "--from", folder / "hf", "--out", folder / "imported")

    def theirs():
        (folder / "copy").unlink(missing_ok=True)
        copies = [["dd", f"if={path}", f"of={folder / 'copy'}", "bs=1M", "conv=fsync", "status=none"] for path in weights]
        return sum(seconds(*words) for words in copies)

    def start():
        return seconds(programs / "mmoe", "import", "--help")

    found = alternating(repeat, {"theirs": theirs, "ours": ours, "start": start})
    return {
        "name": f"import: GB a second of {size / 1e6:.0f} MB, `mmoe import` less its start of {found['start']:.2f} s against dd",
        "ours": size / (found["ours"] - found["start"]) / 1e9,
        "theirs": size / found["theirs"] / 1e9,
    }


def page(rows):
    """The Markdown below HEADING."""
    lines = ["| measurement | ours | the other | ratio |", "|---|---|---|---|"]
    for row in rows:
        if "share" in row:
            lines.append(f"| {row['name']} | {row['share']:.3%} | | |")
        else:
            lines.append(f"| {row['name']} | {row['ours']:.3g} | {row['theirs']:.3g} | {row['ours'] / row['theirs']:.2f} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="folder of mmoe, mmoe-train, mmoe-loading-bench")
    parser.add_argument("--text", type=pathlib.Path, required=True, help="plain text of some megabytes")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--page", type=pathlib.Path, help=f"Markdown whose part under {HEADING!r} is written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = [*tokens(arguments.bin, arguments.text, folder, arguments.repeat)]
        rows.append(loading(arguments.bin, arguments.repeat))
        rows.append(training(arguments.bin, folder))
        rows.append(importing(arguments.bin, folder, arguments.repeat))
    lines = page(rows)
    print("\n".join(lines))
    if arguments.page:
        write_section(arguments.page, HEADING, lines)


if __name__ == "__main__":
    main()
