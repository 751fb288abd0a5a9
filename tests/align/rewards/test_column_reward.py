"""A column as a reward, called as TRL calls a function."""

from __future__ import annotations

import numpy as np
import pytest

from contralign.align.rewards import ColumnReward


def test_numbers_of_every_kind() -> None:
    given = [1, 2.5, np.float32(3), True]
    assert ColumnReward("r")(["?"] * 4, ["a"] * 4, r=given, other=[0] * 4) == [1.0, 2.5, 3.0, 1.0]


def test_a_column_that_is_missing() -> None:
    with pytest.raises(ValueError, match=r"\(r, rs, r_chosen and _rejected\), got 'r', but the"):
        ColumnReward("r").check(["prompt", "score"])
    with pytest.raises(ValueError, match="but the columns are s"):
        ColumnReward("r")(["?"], ["a"], s=[1.0])
    for there in ("r", "rs", "r_chosen"):
        ColumnReward("r").check([there])
