"""Arguments of other types than the annotations say, in a process where nothing else checks them.

Within pytest every annotation is executed, and would refuse them first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

CALLS = {
    'generate(model, inputs, "cad")': "a method is one of contralign.decoding's, such as CAD(), "
    "got 'cad'. A name is read by parse",
    "generate(model, inputs, CAD)": "a method is one of",
    'wrap(model, parse("greedy"))': "a method is one of",
    'processor(model, inputs, "cad")': "a method is one of",
    'score(model, inputs, [[4]], "cad")': "a method is one of",
    'first_token(model, inputs, "cad")': "a method is one of",
    'generate(model, inputs["input_ids"], Plain())': "the main prompt is a mapping with input_ids "
    "and attention_mask, got shape (1, 1)",
    'processor(model, inputs["input_ids"], Plain())': "the main prompt is a mapping",
    'score(model, inputs["input_ids"], [[4]], Plain())': "the main prompt is a mapping",
    "first_token(model, None, Plain())": "the main prompt is a mapping with input_ids and "
    "attention_mask, got NoneType",
    'generate(model, inputs, CAD(), inputs["input_ids"])': "branch is the inputs of a contrast "
    "branch, or a list of them, got shape (1, 1)",
    "generate(model, inputs, CAD(), 5)": "branch is the inputs of a contrast branch",
    'generate(model, inputs, CAD(), [inputs["input_ids"]])': "contrast branch 1 is a mapping",
    'generate(model, {**inputs, "attention_mask": [[1, 1]]}, Plain())': "needs an attention_mask "
    "that is a tensor",
    'generate(model, {"input_ids": torch.tensor([[1.0]])}, Plain())': "tensor of integers",
    'generate(model, {"input_ids": torch.tensor([[30]])}, Plain())': "the main prompt is made of "
    "ids of the model's 30 tokens, got 30. Tokenize with",
    'score(model, {"input_ids": torch.tensor([[-1]])}, [[4]], Plain())': "got -1",
    'processor(model, {"input_ids": torch.full((1, 32), 4)}, Plain())': "the main prompt has 32 "
    "tokens and up to 1 more are to come, but the model's context holds 32",
    "score(model, inputs, [], Plain())": "one answer for each prompt, got none",
    "parse(None)": "a decoding is named by text such as 'cad:alpha=1', got None",
    "parse_list([])": "decodings are named by text such as 'greedy,cad', got []",
    "encode(tokenizer, None)": "encode takes a list of prompts, got None",
    'encode("tokenizer", ["a"])': "encoded by a tokenizer or processor, got 'tokenizer'",
    'LanguageModel("model", tokenizer)': "a transformers model with generate, got str",
    'run("counterfacts", Adder(), [parse("cad")], "run")': "a benchmark is one such as Counterfacts"
    "(), got 'counterfacts'",
    'run(Sums, Adder(), [parse("cad")], "run")': "a benchmark is one such as",
    'run(Sums(), model, [parse("cad")], "run")': "a run asks a LanguageModel(model, tokenizer), "
    "got a LlamaForCausalLM",
    'run(Sums(), Adder(), parse("cad"), "run")': "a run takes decodings",
    'run(Sums(), Adder(), [parse("cad")], None)': "output is the path of a folder, got None",
    'write_report(None, "run")': "a report is of what run returned, into a folder, got a NoneType",
    'score(model, inputs, ["a"], Plain())': "answers are lists of token ids, one a prompt, got "
    "['a']. Tokenize each",
    'score(model, inputs, "a", Plain())': "answers are lists of token ids",
    'score(model, inputs, [["a"]], Plain())': "answers are lists of token ids",
    "score(model, inputs, [4], Plain())": "answers are lists of token ids",
    "score(model, inputs, [[0.5]], Plain())": "answers are lists of token ids",
    "score(model, inputs, torch.tensor([[4]]), Plain())": "",
    "score(model, inputs, [numpy.array([4, 5])], Plain())": "",
    "encode(tokenizer, [None])": "prompts are texts or lists of chat messages, got None as "
    "prompt 0",
    'encode(tokenizer, ["a", ["b"]])': "got ['b'] as prompt 1",
    'encode(tokenizer, "a")': "encode takes a list of prompts, got a single one",
    'run(Sums(), Adder(), "greedy", "run")': "a run takes decodings, got 'greedy'. Make them of",
    'run(Sums(), Adder(), ["greedy"], "run")': "a run takes decodings",
    'run(Sums(), Adder(), [CAD()], "run")': "a run takes decodings",
    'run(Sums(), Adder(), [parse("cad")], "run", batch_size=2.0)': "batch_size must be an integer",
    'run(Sums(), Adder(), [parse("cad")], "run", seed="0")': "seed must be an integer, got '0'",
}
"""A call, and what the complaint about it says; an empty one is none."""

SCRIPT = """
import json, sys
import numpy, torch
from eval_doubles import Adder, Sums, tiny_llama, tiny_tokenizer
from contralign.decoding import *
from contralign.eval import LanguageModel, run, write_report

model, tokenizer = tiny_llama(), tiny_tokenizer()
inputs = encode(tokenizer, ["a"])
said = {}
for call in json.loads(sys.argv[1]):
    try:
        eval(call)
        said[call] = ""
    except Exception as error:
        said[call] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("calls")
    command = [sys.executable, "-c", SCRIPT, json.dumps([*CALLS])]
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [*Path(folder).iterdir()]
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("call", CALLS)
def test_the_complaint_says_what_was_expected(said: dict[str, str], call: str) -> None:
    if CALLS[call]:
        assert said[call].startswith("ValueError: ")
        assert CALLS[call] in said[call]
    else:
        assert said[call] == ""
