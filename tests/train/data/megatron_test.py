"""Token files against Megatron-LM's own indexed-dataset code: the same bytes for the same documents, and each reads the
other's."""

import json
import os
import pathlib
import random
import subprocess

import numpy as np
import pytest

indexed_dataset = pytest.importorskip(
    "megatron.core.datasets.indexed_dataset", reason="megatron-core is not installed", exc_type=ImportError
)
import torch  # noqa: E402  (megatron-core needs it)

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin"
pytestmark = pytest.mark.skipif(not (BIN / "mmoe-train").exists(), reason="mmoe-train is not built")


def done(*words):
    result = subprocess.run([BIN / "mmoe", *map(str, words)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def write_theirs(prefix, documents, dtype):
    builder = indexed_dataset.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for document in documents:
        builder.add_document(torch.tensor(document, dtype=torch.int64), [len(document)])
    builder.finalize(f"{prefix}.idx")


def test_a_build_has_the_bytes_that_megatron_writes(tmp_path):
    generator = random.Random(3)
    text = "\n\n".join("".join(generator.choices("abc def", k=generator.randint(5, 90))) for _ in range(70))
    (tmp_path / "text.txt").write_text(text)
    out = tmp_path / "ours"
    done("data", "build", "--text", tmp_path / "text.txt", "--tokenizer", "bytes", "--out", out, "--split", "1,0,0,0")
    theirs = indexed_dataset.IndexedDataset(f"{out}.train")
    documents = [theirs[i].tolist() for i in range(len(theirs))]
    assert bytes(token for document in documents for token in document).decode() == text
    assert len(theirs.document_indices) == len(documents) + 1
    write_theirs(tmp_path / "theirs", documents, indexed_dataset.DType.optimal_dtype(256))
    for ending in ("bin", "idx"):
        assert (tmp_path / f"theirs.{ending}").read_bytes() == (tmp_path / f"ours.train.{ending}").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.uint16])
def test_every_integer_type_of_megatron_is_imported(dtype, tmp_path):
    generator = random.Random(4)
    documents = [[generator.randrange(120) for _ in range(generator.randint(1, 40))] for _ in range(30)]
    write_theirs(tmp_path / "theirs", documents, dtype)
    words = ("--tokens", tmp_path / "theirs.bin", "--vocab-size", 120, "--split", "1,0,0,0", "--json")
    info = json.loads(done("data", "import", *words, "--out", tmp_path / "ours"))
    assert info["splits"]["train"]["documents"] == 30
    ours = indexed_dataset.IndexedDataset(f"{tmp_path / 'ours'}.train")
    assert [ours[i].tolist() for i in range(len(ours))] == documents
