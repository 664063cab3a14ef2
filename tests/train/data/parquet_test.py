"""Parquet files of pyarrow, in the encodings that data sets are published in: the token files of the same text."""

import json
import os
import pathlib
import random
import subprocess

import pytest

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
import pyarrow.parquet  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("MMOE_BINARY_DIR", ROOT / "build")) / "bin"
pytestmark = pytest.mark.skipif(not (BIN / "mmoe-train").exists(), reason="mmoe-train is not built")


def build(text, out, *more):
    words = ("data", "build", "--text", text, "--out", out, "--json-key", "body", *more)
    return subprocess.run([BIN / "mmoe", *map(str, words)], capture_output=True, text=True, timeout=300)


def built(*words):
    result = build(*words)
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def documents():
    """Long and short ones, repeated ones, ones that do not compress, none."""
    draw = random.Random(2)
    texts = [" ".join(draw.choices(["word", "Καλημέρα", "expert", "\n"], k=draw.randrange(1, 400))) for _ in range(300)]
    texts += ["".join(chr(draw.randrange(32, 0x2000)) for _ in range(3000)) for _ in range(20)]
    texts += ["again"] * 400 + [""] * 5
    draw.shuffle(texts)
    return texts


@pytest.fixture(scope="module")
def expected(documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    (folder / "text.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in documents))
    built(folder / "text.jsonl", folder / "tokens")
    return folder


KINDS = {
    "as_pandas_writes": {},
    "plain_version_2": dict(compression="none", use_dictionary=False, data_page_version="2.0"),
    "snappy_version_2": dict(data_page_version="2.0", row_group_size=100),
    "small_pages": dict(use_dictionary=False, data_page_size=4000),
    "zstd": dict(compression="zstd"),
    "gzip": dict(compression="gzip"),
    "delta": dict(use_dictionary=False, column_encoding={"body": "DELTA_BYTE_ARRAY"}),
    "dictionary_that_overflows": dict(dictionary_pagesize_limit=20000, data_page_size=4000, row_group_size=500),
}


@pytest.mark.parametrize("is_nullable", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_parquet_gives_the_tokens_of_the_same_json_lines(kind, is_nullable, documents, expected, tmp_path):
    texts = list(documents)
    if is_nullable:
        for at in (0, 17, 17, 18, len(texts)):
            texts.insert(at, None)
    field = pyarrow.field("body", pyarrow.string(), nullable=is_nullable)
    table = pyarrow.table([pyarrow.array(texts, pyarrow.string())], schema=pyarrow.schema([field]))
    pyarrow.parquet.write_table(table, tmp_path / "text.parquet", **KINDS[kind])
    built(tmp_path / "text.parquet", tmp_path / "tokens")
    for split in ("train", "valid", "search", "test"):
        for ending in ("bin", "idx"):
            name = f"tokens.{split}.{ending}"
            assert (tmp_path / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.parametrize("kind", [pyarrow.large_string(), pyarrow.dictionary(pyarrow.int32(), pyarrow.string())], ids=str)
def test_every_type_of_text_is_read(kind, documents, expected, tmp_path):
    table = pyarrow.table({"body": pyarrow.array(documents, pyarrow.string()).cast(kind)})
    pyarrow.parquet.write_table(table, tmp_path / "text.parquet")
    built(tmp_path / "text.parquet", tmp_path / "tokens")
    assert (tmp_path / "tokens.train.bin").read_bytes() == (expected / "tokens.train.bin").read_bytes()


def test_a_damaged_file_is_refused_in_one_line(documents, tmp_path):
    path = tmp_path / "text.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"body": documents}), path)
    path.write_bytes(path.read_bytes()[:-100])
    result = build(path, tmp_path / "tokens")
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1, result
    assert "text.parquet: is no Parquet file" in result.stderr
    assert not list(tmp_path.glob("tokens*"))
