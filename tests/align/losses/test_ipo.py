"""IPO, Eq. 17 of the paper, of sums and of averages."""

from __future__ import annotations

import pytest
import torch
from pair_batches import logps, pairs

from contralign.align.losses import IPO

LENGTHS = [(3, 5), (1, 1), (7, 2)]


def test_by_hand() -> None:
    # h chosen = 2 over two tokens, h rejected = -1 over one; 1 / (2 beta) = 2.
    policy = torch.tensor([[[-1.0, -2.0], [-4.0, 0.0]]])
    reference = torch.tensor([[[-2.0, -3.0], [-3.0, 0.0]]])
    summed, metrics = IPO(0.25, average=False)(policy, reference, pairs([(2, 1)]))
    averaged, same = IPO(0.25)(policy, reference, pairs([(2, 1)]))
    assert summed.item() == (3 - 2) ** 2
    assert averaged.item() == (1 + 1 - 2) ** 2
    assert metrics["rewards/margins"].item() == same["rewards/margins"].item() == 0.25 * 3


@pytest.mark.parametrize("average", [False, True])
def test_where_the_policy_is_the_reference_all_is_still_to_do(average: bool) -> None:
    policy = logps(LENGTHS, 1)
    loss, _ = IPO(0.1, average)(policy, policy, pairs(LENGTHS))
    assert loss.tolist() == pytest.approx([25.0] * 3)  # (1 / (2 * 0.1)) ** 2


@pytest.mark.parametrize("average", [False, True])
def test_equals_the_equation_row_by_row(average: bool) -> None:
    policy, reference = logps(LENGTHS, 1), logps(LENGTHS, 2)
    loss, _ = IPO(0.3, average)(policy, reference, pairs(LENGTHS))
    for i, lengths in enumerate(LENGTHS):
        chosen, rejected = (
            sum(policy[i, side, t].item() - reference[i, side, t].item() for t in range(length))
            / (length if average else 1)
            for side, length in enumerate(lengths)
        )
        assert loss[i].item() == pytest.approx((chosen - rejected - 1 / 0.6) ** 2)


def test_of_single_tokens_both_are_one() -> None:
    policy, batch = logps([(1, 1)] * 4, 1), pairs([(1, 1)] * 4)
    assert torch.equal(
        IPO(average=True)(policy, None, batch)[0], IPO(average=False)(policy, None, batch)[0]
    )


def test_refuses_margins() -> None:
    with pytest.raises(ValueError, match="IPO is not defined with a margin"):
        IPO()(torch.zeros(1, 2, 1), None, pairs([(1, 1)], margin=[1.0]))
