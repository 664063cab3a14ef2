import random

import pytest

from train_program import WORDS, done


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Token files of 300 kB of words in which each depends on the one before."""
    folder = tmp_path_factory.mktemp("data")
    generator = random.Random(1)
    documents, word = [], 0
    for _ in range(300):
        words = []
        for _ in range(190):
            word = (3 * word + generator.randrange(3)) % len(WORDS)
            words.append(WORDS[word])
        documents.append(" ".join(words) + ".")
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n")
    done("data", "build", "--text", folder / "text.txt", "--tokenizer", "bytes", "--out", folder / "tokens")
    return folder / "tokens"
