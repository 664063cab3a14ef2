#!/usr/bin/env python3
"""One self-contained HTML page from a run folder: what was predicted, what was measured, what was chosen.

    analysis/report.py --run build/demo --out report.html

A part that the run has not reached yet is named, not left out in silence. The page loads nothing from the network.
"""

import argparse
import base64
import html
import io
import json
import os
import pathlib
import sys

import allocation_figure
import drawing
import loss_by_k_figure
import loss_figure
import memory_figure
import operations_figure
import step_time_figure
import sum_k_figure
from drawing import bytes_text, percent_text, seconds_text
from load import DataError, Missing, load_run

FIGURES = (
    memory_figure,
    step_time_figure,
    loss_figure,
    loss_by_k_figure,
    sum_k_figure,
    allocation_figure,
    operations_figure,
)

STYLE = (pathlib.Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def escaped(text):
    return html.escape(str(text))


def table(caption, head, rows):
    """An HTML table; every column but the first holds numbers. Cells are text."""

    def cells(tag, row):
        return "".join(
            f"<{tag}{'' if i == 0 else chr(32) + 'class=' + chr(34) + 'number' + chr(34)}"
            f"{' scope=' + chr(34) + 'col' + chr(34) if tag == 'th' else ''}>{escaped(cell)}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="table"><table><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure_section(figure, run):
    """Heading, image with alternative text and caption; or what is missing."""
    title = f"<h2>{escaped(figure.TITLE)}</h2>"
    try:
        data = figure.compute(run)
        drawn = figure.draw(data)
    except (Missing, DataError) as problem:
        return f'<section>{title}<p class="missing">Not drawn: {escaped(problem)}.</p></section>'
    image = io.BytesIO()
    drawn.savefig(image, format="svg", metadata={"Date": None})
    drawing.plt.close(drawn)
    source = "data:image/svg+xml;base64," + base64.b64encode(image.getvalue()).decode()
    caption = escaped(figure.caption(data))
    image_tag = f'<img src="{source}" alt="{escaped(figure.TITLE)}. {caption}">'
    return f"<section>{title}<figure>{image_tag}<figcaption>{caption}</figcaption></figure></section>"


def difference_text(entry, when, text):
    return f"{text(entry[f'predicted_{when}'])} ({percent_text(entry[f'error_fraction_{when}'])})"


def measured_and_predicted(entry, text):
    return (
        f"{text(entry['measured'])}; before anything ran {difference_text(entry, 'before', text)} was predicted, "
        f"after calibration {difference_text(entry, 'after', text)}."
    )


def summary_sentences(run):
    """The run in plain words, as far as it has come."""
    sentences = []
    loop = run.loop
    if loop is None:
        sentences.append("This run is not complete: the loop has not written its summary yet.")
    else:
        peak, step = loop.at("peak_allocated_bytes"), loop.at("step_seconds")
        sentences.append("Memory: the largest step took " + measured_and_predicted(peak, bytes_text))
        sentences.append("Time: the median step took " + measured_and_predicted(step, seconds_text))
    try:
        quality = loss_by_k_figure.compute(run)
        sentences.append("Quality: " + loss_by_k_figure.caption(quality))
        if quality["bits_per_byte"] and quality["unigram_bits_per_byte"]:
            sentences[-1] += (
                f" A model that ignores context cannot go below {quality['unigram_bits_per_byte']:.2f} bits per byte."
            )
    except Missing:
        pass
    try:
        sentences.append("Allocation: " + allocation_figure.verdict(allocation_figure.compute(run)))
    except Missing:
        pass
    saving = loop.find("budget.saving_fraction") if loop else None
    if isinstance(saving, dict) and saving.get("p99") is not None:
        sentences.append(
            f"Budget: predicted to save {percent_text(saving['p99'], sign=False)} of the peak without it, each at the same "
            "confidence over the run."
        )
    return sentences


def prediction_table(run):
    if run.loop is None:
        return ""
    rows = []
    for key, name, text in (
        ("peak_allocated_bytes", "peak memory, worst draw against largest step", bytes_text),
        ("median_step_peak_allocated_bytes", "peak memory, median step", bytes_text),
        ("step_seconds", "time of a step, median", seconds_text),
    ):
        entry = run.loop.find(key)
        if entry:
            rows.append(
                (
                    name,
                    difference_text(entry, "before", text),
                    difference_text(entry, "after", text),
                    text(entry["measured"]),
                )
            )
    return table(
        "Predicted and measured. In brackets: predicted over measured, less one.",
        ("quantity", "predicted before calibration", "after calibration", "measured"),
        rows,
    )


def job_table(run):
    if run.job is None:
        return ""
    model, training, elastic = (run.job.find(key, {}) for key in ("model", "training", "elastic"))
    rows = [("device", run.job.find("hardware.device", "cpu")), ("devices", run.job.find("hardware.num_devices", 1))]
    if isinstance(model, dict):
        rows += [
            (name.replace("_", " "), model[name])
            for name in ("num_layers", "hidden_size", "num_heads", "num_experts", "expert_hidden_size", "vocab_size")
            if name in model
        ]
    rows += [
        (name.replace("_", " "), training[name])
        for name in ("seq_len", "micro_batch_size", "global_batch_size", "precision", "recompute", "tokens")
        if name in training
    ]
    rows += [
        (name.replace("_", " "), elastic[name])
        for name in ("k_min", "k_max", "granularity", "sampling")
        if name in elastic
    ]
    budget = elastic.get("budget")
    if isinstance(budget, dict):
        rows.append(("activation budget", f"{budget.get('kind')}, sum of k {budget.get('sum_k')}"))
    return "<h2>The job</h2>" + table(
        "As resolved; the full file is job.json.",
        ("key", "value"),
        [(name, number_text(value)) for name, value in rows],
    )


def number_text(value):
    if isinstance(value, float) and value == int(value):
        value = int(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def memory_table(run):
    plan = run.plan_calibrated or run.plan
    stages = plan.find("memory.stages") if plan else None
    if not stages:
        return ""
    causes = [
        f"{cause}_bytes"
        for cause in ("weights", "gradients", "optimizer", "activations", "buffers", "peak_allocated")
        if f"{cause}_bytes" in stages[0]
    ]
    rows = [(f"stage {i}", *(bytes_text(stage.get(cause, 0)) for cause in causes)) for i, stage in enumerate(stages)]
    return "<h2>Predicted memory by cause</h2>" + table(
        "What is alive at the predicted peak of each pipeline stage.",
        ("stage", *(cause.removesuffix("_bytes").replace("_", " ") for cause in causes)),
        rows,
    )


def time_table(run):
    plan = run.plan_calibrated or run.plan
    parts = plan.find("throughput.breakdown_seconds") if plan else None
    if not isinstance(parts, dict) or not parts:
        return ""
    total = plan.at("throughput.step_seconds")
    rows = [
        (name.replace("_", " "), seconds_text(seconds), percent_text(seconds / total, sign=False))
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1])
    ]
    return "<h2>Predicted time by cause</h2>" + table("Of one step.", ("cause", "time", "share"), rows)


def page(run):
    """The whole document."""
    name = run.folder.resolve().name
    missing = f'<p class="missing">Not in this run (yet): {escaped(", ".join(run.missing))}.</p>' if run.missing else ""
    summary = "".join(f"<p>{escaped(sentence)}</p>" for sentence in summary_sentences(run))
    figures = "".join(figure_section(figure, run) for figure in FIGURES)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>mmoe run {escaped(name)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>Run {escaped(name)}</h1><p class="where">Matryoshka mixture-of-experts: predicted beside measured</p>'
        f'<div class="summary">{summary}</div>{missing}{prediction_table(run)}{figures}'
        f"{memory_table(run)}{time_table(run)}{job_table(run)}"
        f"</main></body></html>\n"
    )


def write_atomically(path, text):
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run", required=True, type=pathlib.Path, help="run folder")
    parser.add_argument("--out", type=pathlib.Path, help="page to write (default: RUN/report.html)")
    parser.add_argument("--json", action="store_true", help="print where the page is and what was missing, as JSON")
    arguments = parser.parse_args()
    out = arguments.out or arguments.run / "report.html"
    try:
        run = load_run(arguments.run)
        text = page(run)
    except DataError as error:
        print(f"mmoe: error: {error}", file=sys.stderr)
        return 2
    try:
        write_atomically(out, text)
    except OSError as error:
        print(
            f"mmoe: error: {out}: cannot be written ({error.strerror}); choose another --out or free some space",
            file=sys.stderr,
        )
        return 1 if error.errno == 28 else 2
    if arguments.json:
        print(json.dumps({"report": str(out), "missing": run.missing}))
    else:
        print(f"report: {out}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
