"""mmoe.tokenize: token files with a Hugging Face tokenizer, read by Megatron's own code and by `mmoe data import`."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build"))
if not (BUILD / "python" / "mmoe").is_dir():
    pytest.skip("the module mmoe was not built (MMOE_PYTHON is off)", allow_module_level=True)
tokenizers = pytest.importorskip("tokenizers")

DOCUMENTS = [f"In the beginning there were {n} words, of which {n // 2} were good.\n\n" for n in range(40)]


@pytest.fixture
def folder(tmp_path):
    """A folder with the documents as text and a tokenizer.json learned from them."""
    (tmp_path / "text.txt").write_text("".join(DOCUMENTS))
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(DOCUMENTS, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def call(*words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(BUILD / "python"), *sys.path])}
    command = [sys.executable, "-m", "mmoe.tokenize", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def refused(*words):
    result = call(*words)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def expected_ids(folder, end=()):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [[*tokenizer.encode(text).ids, *end] for text in DOCUMENTS]


def test_megatron_reads_what_is_written(folder):
    indexed_dataset = pytest.importorskip("megatron.core.datasets.indexed_dataset", exc_type=ImportError)
    words = ("--text", folder / "text.txt", "--tokenizer", folder / "tokenizer.json", "--out", folder / "corpus")
    result = call(*words, "--document-end", "<end>")
    assert result.returncode == 0, result.stderr
    dataset = indexed_dataset.IndexedDataset(str(folder / "corpus"))
    assert [dataset[i].tolist() for i in range(len(dataset))] == expected_ids(folder, end=[0])
    assert dataset.document_indices.tolist() == list(range(len(DOCUMENTS) + 1))


@pytest.mark.skipif(not (BUILD / "bin" / "mmoe-train").exists(), reason="mmoe-train is not built")
def test_mmoe_imports_what_is_written(folder):
    lines = folder / "text.jsonl"
    lines.write_text("".join(json.dumps({"body": text}) + "\n" for text in DOCUMENTS))
    words = ("--key", "body", "--tokenizer", folder / "tokenizer.json", "--out", folder / "corpus")
    assert call("--text", lines, *words).returncode == 0
    words = ("--tokens", folder / "corpus.bin", "--vocab-size", 300, "--split", "1,0,0,0", "--out", folder / "data")
    command = [BUILD / "bin" / "mmoe", "data", "import", *map(str, words), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    train = json.loads(result.stdout)["splits"]["train"]
    assert train["documents"] == len(DOCUMENTS)
    assert train["tokens"] == sum(map(len, expected_ids(folder)))


def test_text_is_kept_to_the_byte(folder):
    text = "one\r\ntwo|three\u2028four\x0b|\n"
    (folder / "odd.txt").write_bytes(text.encode())
    result = call("--text", folder / "odd.txt", "--separator", r"\x7c", "--out", folder / "out.jsonl")
    assert result.returncode == 0, result.stderr
    documents = [json.loads(line)["text"] for line in (folder / "out.jsonl").read_text().split("\n")[:-1]]
    assert documents == ["one\r\ntwo|", "three\u2028four\x0b|", "\n"]


def test_parquet_becomes_json_lines(folder):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pyarrow.table({"text": DOCUMENTS, "length": [len(text) for text in DOCUMENTS]})
    pyarrow.parquet.write_table(table, folder / "text.parquet", row_group_size=7)
    result = call("--text", folder / "text.parquet", "--out", folder / "out.jsonl")
    assert result.returncode == 0, result.stderr
    assert [json.loads(line)["text"] for line in (folder / "out.jsonl").read_text().splitlines()] == DOCUMENTS
    assert "holds int, not text" in refused(
        "--text", folder / "text.parquet", "--key", "length", "--out", folder / "other.jsonl"
    )
    assert "no column body" in refused(
        "--text", folder / "text.parquet", "--key", "body", "--out", folder / "other.jsonl"
    )
    assert not list(folder.glob("other*"))


def test_wrong_input_is_refused_and_leaves_nothing(folder):
    good = ("--tokenizer", folder / "tokenizer.json", "--out", folder / "corpus")
    (folder / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
    assert "broken.jsonl, line 2" in refused("--text", folder / "broken.jsonl", *good)
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    assert "byte 3 is no UTF-8" in refused("--text", folder / "latin.txt", *good)
    assert "missing.txt" in refused("--text", folder / "missing.txt", *good)
    (folder / "empty.txt").write_text("")
    assert "no file of --text holds a document" in refused("--text", folder / "empty.txt", *good)
    (folder / "half.jsonl").write_text('{"text": "a\\ud800b"}\n')
    assert "half a character" in refused("--text", folder / "half.jsonl", *good)
    text = ("--text", folder / "text.txt")
    (folder / "taken.idx").mkdir()
    assert "taken.idx is a folder" in refused(*text, *good[:2], "--out", folder / "taken")
    assert not (folder / "taken.bin").exists()
    assert "--tex" in refused("--tex", folder / "text.txt", *good)
    assert "required: --out" in refused(*text)
    assert "is unknown" in refused(*text, *good, "--separator", r"\q")
    assert "is no token of" in refused(*text, *good, "--document-end", "<eos>")
    assert "tokenizer.json of Hugging Face" in refused(*text, "--tokenizer", folder / "text.txt", "--out", folder / "x")
    assert "end it in .jsonl" in refused(*text, "--out", folder / "corpus")
    assert not list(folder.glob("corpus*")) and not list(folder.glob("x*"))
