"""`mmoe generate` from outside: plans, sampling, text that appears while it is made."""

import json
import subprocess

import pytest

from train_program import ENVIRONMENT, NEEDS_PROGRAM, command, done, error_line, run, train_words, write_job

pytestmark = NEEDS_PROGRAM
PROMPT = "the queen sees"


@pytest.fixture(scope="module")
def words(data, tmp_path_factory):
    """Those that name a model, trained for a few steps, and a prompt."""
    folder = tmp_path_factory.mktemp("generate")
    done(*train_words(write_job(folder / "job.json"), data, folder / "run"))
    checkpoint = folder / "run" / "checkpoints" / "step_12"
    return "generate", "--checkpoint", checkpoint, "--data", data, "--prompt", PROMPT


def generated(words, *more):
    return json.loads(done(*words, "--json", "--max-tokens", 40, *more).stdout)


def plan_file(path, k_per_layer):
    path.write_text(json.dumps({"k_per_layer": k_per_layer}))
    return path


def test_a_plan_is_one_k_a_layer(words, tmp_path):
    greedy = ("--temperature", 0)
    uniform = generated(words, *greedy, "--k", 2)
    assert generated(words, *greedy, "--allocation", plan_file(tmp_path / "uniform.json", [2, 2, 2])) | {
        "seconds": 0, "tokens_per_second": 0} == uniform | {"seconds": 0, "tokens_per_second": 0}
    other = generated(words, *greedy, "--allocation", plan_file(tmp_path / "other.json", [1, 6, 3]))
    assert other["k_per_layer"] == [1, 6, 3] and len(other["tokens"]) == 40
    assert other["text"] == bytes(other["tokens"]).decode(errors="replace")


def test_draws_follow_the_seed_and_the_cuts(words):
    first = generated(words, "--seed", 3)["tokens"]
    assert generated(words, "--seed", 3)["tokens"] == first != generated(words, "--seed", 4)["tokens"]
    most_likely = generated(words, "--temperature", 0)["tokens"]
    assert generated(words, "--top-k", 1)["tokens"] == most_likely
    assert generated(words, "--top-p", 1e-9)["tokens"] == most_likely


def test_text_appears_while_it_is_made(words):
    process = subprocess.Popen(command(*words, "--max-tokens", 200000), stdout=subprocess.PIPE, env=ENVIRONMENT)
    try:
        shown = process.stdout.read(len(PROMPT) + 60)
        assert process.poll() is None  # hours before its end
        assert shown.startswith(PROMPT.encode()) and len(shown) == len(PROMPT) + 60
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "more, word",
    [
        (["--k", "1,2"], "one number"),
        (["--temperature", "-1"], "--temperature"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--prompt", ""], "--prompt"),
    ],
)
def test_bad_flags_are_refused(words, more, word):
    kept = words[:-2] if more[0] == "--prompt" else words
    assert word in error_line(run(*kept, *more))
