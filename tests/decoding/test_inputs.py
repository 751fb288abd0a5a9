"""Bad inputs fail by name before any forward pass."""

from __future__ import annotations

import pytest
import torch

from contralign.decoding import CAD, generate, processor, wrap

GREEDY = {"max_new_tokens": 3, "do_sample": False}


@pytest.fixture
def forbidden(own_llama):
    """A model that must not be run."""
    own_llama.model.layers[0].register_forward_hook(lambda *call: pytest.fail("ran a forward"))
    return own_llama


def left(*rows):
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


RIGHT_PADDED = {
    "input_ids": torch.tensor([[4, 0], [5, 6]]),
    "attention_mask": torch.tensor([[1, 0], [1, 1]]),
}


@pytest.mark.parametrize(
    ("inputs", "branch", "message"),
    [
        (left([4, 5], [6]), left([4]), "one row for each of the 2 main prompts, got 1"),
        (left([4, 5], [6]), None, "reads 1 contrast branch"),
        (left([4], [5]), left([], [6]), r"empty prompts in rows \[0\]"),
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, left([4]), "empty prompts"),
        ({"input_ids": torch.tensor([[4], [5]])}, left([4], [5]), "no attention_mask"),
        (left([4]), {"attention_mask": torch.ones(1, 1)}, "needs input_ids, .* got NoneType"),
        (
            left([4], [5]),
            RIGHT_PADDED,
            r"padded on the left.*rows \[0\]",
        ),
        (
            RIGHT_PADDED,
            left([4], [5]),
            r"the main prompt must be padded on the left",
        ),
        (
            {"input_ids": torch.tensor([[4, 5]]), "attention_mask": torch.tensor([[1]])},
            left([4]),
            r"of the shape of input_ids, \(1, 2\), got \(1, 1\)",
        ),
    ],
)
def test_bad_inputs_are_refused_before_a_forward(inputs, branch, message, forbidden):
    with pytest.raises(ValueError, match=message):
        generate(forbidden, inputs, CAD(), branch, **GREEDY)
    with pytest.raises(ValueError, match=message):
        processor(forbidden, inputs, CAD(), branch)


@pytest.mark.parametrize(
    ("main", "contrast", "name"), [(254, 2, "the main prompt"), (2, 254, "contrast branch 1")]
)
def test_a_prompt_that_outgrows_the_context_is_refused(main, contrast, name, llama, forbidden):
    inputs, branch = left([4] * main), left([4] * contrast)
    with pytest.raises(ValueError, match=f"{name} has 254 tokens and up to 3 more"):
        generate(forbidden, inputs, CAD(), branch, **GREEDY)
    assert generate(llama, inputs, CAD(), branch, max_new_tokens=2).shape[1] == main + 2


def test_an_unknown_execution_is_refused(llama):
    with pytest.raises(ValueError, match="execution must be one of auto, merged, sequential, got"):
        wrap(llama, CAD(), left([4]), execution="parallel")
