"""Text to token files with a Hugging Face tokenizer.json, Parquet to JSON Lines: what `mmoe data` does not read itself.

With a tokenizer, OUT.bin and OUT.idx (Megatron's indexed format) for `mmoe data import`; without one, documents as JSON
Lines for `mmoe data build`:

  python -m mmoe.tokenize --text a.parquet b.jsonl c.txt --tokenizer tokenizer.json --out corpus
  mmoe data import --tokens corpus.bin --vocab-size 50304 --out data/corpus

  python -m mmoe.tokenize --text a.parquet --out corpus.jsonl
  mmoe data build --text corpus.jsonl --tokenizer sentencepiece --vocab-size 8192 --out data/corpus

Needs `pip install tokenizers`, and for Parquet `pip install pyarrow`.
"""

import argparse
import array
import contextlib
import importlib
import itertools
import json
import os
import pathlib
import re
import struct
import sys

import numpy as np

BATCH = 1024  # documents that are encoded together, on all cores
LARGEST_UINT16_VOCABULARY = 65500  # up to which Megatron stores 16 bits a token
TYPE_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}  # of Megatron's index


class InputError(Exception):
    """The user's mistake: one line that says what, where and what to do."""


def needed(module, purpose):
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise InputError(f"{purpose} needs the package {package}; pip install {package}") from None


def parquet_documents(path, key):
    parquet = needed("pyarrow.parquet", f"{path}: Parquet")
    with parquet.ParquetFile(path) as file:
        if key not in file.schema_arrow.names:
            raise InputError(f"{path} has no column {key}; name one of {', '.join(file.schema_arrow.names)} with --key")
        for rows in file.iter_batches(BATCH, columns=[key]):
            yield from rows.column(0).to_pylist()


def json_lines_documents(path, key):
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)[key]
            except (json.JSONDecodeError, KeyError, TypeError):
                raise InputError(
                    f"{path}, line {number}: no JSON object with the key {key}; mend it, or name another with --key"
                ) from None


def plain_text_documents(path, separator):
    """Parts that end with the separator; a file's end ends the last one."""
    parts = pathlib.Path(path).read_bytes().decode("utf-8").split(separator)
    yield from (part + separator for part in parts[:-1])
    yield parts[-1]


def documents(paths, key, separator):
    """Every document that is not empty."""
    for path in paths:
        ending = pathlib.Path(path).suffix
        if ending == ".parquet":
            found = parquet_documents(path, key)
        elif ending in (".jsonl", ".ndjson"):
            found = json_lines_documents(path, key)
        else:
            found = plain_text_documents(path, separator)
        try:
            for text in found:
                if not isinstance(text, str):
                    raise InputError(f"{path}: {key} holds {type(text).__name__}, not text; name another with --key")
                text.encode()
                if text:
                    yield text
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: byte {error.start} is no UTF-8; convert the file to UTF-8") from None
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])
            raise InputError(f"{path}: a document holds {half}, half a character; mend it") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from None


@contextlib.contextmanager
def written_whole(*paths):
    """Files to write to, which replace `paths` together once the block has ended without an error."""
    for path in paths:
        if os.path.isdir(path):
            raise InputError(f"{path} is a folder; give another --out")
    unfinished = [f"{path}.unfinished" for path in paths]
    try:
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(open(name, "wb")) for name in unfinished]
        for name, path in zip(unfinished, paths):
            os.replace(name, path)
    finally:
        for name in unfinished:
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)


def write_index(file, lengths, dtype):
    """Megatron's index of documents of one sequence each: header, lengths, byte positions, document boundaries."""
    lengths = np.array(lengths, np.int32)
    positions = np.zeros(len(lengths), np.int64)
    np.cumsum(lengths[:-1], dtype=np.int64, out=positions[1:])
    file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, TYPE_CODES[dtype], len(lengths), len(lengths) + 1))
    file.write(lengths.tobytes() + (positions * dtype.itemsize).tobytes() + np.arange(len(lengths) + 1).tobytes())


def write_tokens(texts, tokenizer, end_id, out):
    """Returns documents and tokens written to `out`.bin and .idx."""
    small = tokenizer.get_vocab_size() < LARGEST_UINT16_VOCABULARY
    dtype = np.dtype(np.uint16 if small else np.int32)
    lengths = array.array("i")
    texts = iter(texts)
    with written_whole(f"{out}.bin", f"{out}.idx") as (tokens, index):
        while batch := list(itertools.islice(texts, BATCH)):
            for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
                ids = encoding.ids if end_id is None else [*encoding.ids, end_id]
                if ids:
                    tokens.write(np.array(ids, dtype).tobytes())
                    lengths.append(len(ids))
        if not lengths:
            raise InputError("no file of --text holds a document; give files that hold text")
        write_index(index, lengths, dtype)
    return len(lengths), sum(lengths)


def write_json_lines(texts, out):
    """Returns the number of documents written."""
    count = 0
    with written_whole(out) as (lines,):
        for text in texts:
            lines.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
            count += 1
        if not count:
            raise InputError("no file of --text holds a document; give files that hold text")
    return count


def load_tokenizer(path):
    tokenizers = needed("tokenizers", f"--tokenizer {path}")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # tokenizers raises nothing narrower
        raise InputError(f"--tokenizer {path}: {error}; give a tokenizer.json of Hugging Face tokenizers") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def run(arguments):
    texts = documents(arguments.text, arguments.key, separator_text(arguments.separator))
    if arguments.tokenizer is None:
        if pathlib.Path(arguments.out).suffix not in (".jsonl", ".ndjson"):
            raise InputError(f"--out {arguments.out}: without --tokenizer JSON Lines are written; end it in .jsonl")
        print(f"{write_json_lines(texts, arguments.out)} documents in {arguments.out}")
        return
    tokenizer = load_tokenizer(arguments.tokenizer)
    end_id = None
    if arguments.document_end is not None:
        end_id = tokenizer.token_to_id(arguments.document_end)
        if end_id is None:
            raise InputError(f"--document-end {arguments.document_end} is no token of {arguments.tokenizer}; give one")
    count, tokens = write_tokens(texts, tokenizer, end_id, arguments.out)
    print(
        f"{count} documents, {tokens} tokens in {arguments.out}.bin; next:\n"
        f"  mmoe data import --tokens {arguments.out}.bin --vocab-size {tokenizer.get_vocab_size()} --out PREFIX"
    )


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message}; see python -m mmoe.tokenize --help")


def separator_text(text):
    r"""\n, \r, \t, \0, \\ and \xHH are understood, as by mmoe data build."""
    known = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "\\": "\\"}
    pieces = re.split(r"\\(x[0-9a-fA-F]{2}|.)", text, flags=re.DOTALL)
    for i in range(1, len(pieces), 2):
        code = pieces[i]
        if len(code) == 1 and code not in known:
            raise InputError(f"--separator {text}: \\{code} is unknown; \\n \\r \\t \\0 \\\\ and \\xHH are understood")
        pieces[i] = known[code] if len(code) == 1 else chr(int(code[1:], 16))
    if not any(pieces):
        raise InputError("--separator is empty; give what ends a document, such as \\n\\n")
    return "".join(pieces)


def main():
    parser = Parser(
        prog="python -m mmoe.tokenize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--text", nargs="+", required=True, help="text files, JSON Lines (.jsonl, .ndjson) or .parquet")
    parser.add_argument("--tokenizer", help="tokenizer.json")
    parser.add_argument("--out", required=True, help="prefix of OUT.bin and OUT.idx; without a tokenizer a .jsonl file")
    parser.add_argument("--key", default="text", help="key of JSON Lines, column of Parquet")
    parser.add_argument(
        "--separator", default=r"\n\n", help=r"what ends a document of a text file; \n \r \t \0 \\ \xHH are understood"
    )
    parser.add_argument("--document-end", help="token to add behind every document, such as <|endoftext|>")
    try:
        run(parser.parse_args())
    except (InputError, OSError) as error:
        print(f"mmoe: error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
