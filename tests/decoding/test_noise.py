"""VCD's noise: its schedule, and that a row's noise is the row's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from align_vlms import picture
from vision_reference import prompt
from vlms import FAMILIES, family

from contralign.decoding import encode
from contralign.decoding.noise import noised, shares
from contralign.decoding.pictured import Prompts
from contralign.decoding.seeding import generator

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = [
    ("What is this?", [picture(0)]),
    ("Why?", [picture(1, 40, 80)]),
    ("Where is it?", [picture(2, 90, 30)]),
]


@pytest.mark.parametrize(("step", "values"), [(500, (0.8630, 0.5052)), (999, (0.2850, 0.9585))])
def test_the_schedule_is_the_authors(step: int, values: tuple[float, float]) -> None:
    assert shares(step) == pytest.approx(values, abs=5e-5)


def test_signal_and_noise_keep_the_variance() -> None:
    assert all(np.hypot(*shares(step)) == pytest.approx(1) for step in (0, 1, 250, 999))
    assert shares(0)[0] == pytest.approx(np.sqrt(1 - 1e-5 - 4.99e-3 / (1 + np.exp(6))))


@pytest.mark.parametrize("name", FAMILIES)
def test_noise_does_not_depend_on_the_batch_or_its_order(name: str) -> None:
    _, reader = family(name)
    seeds = [7, 8, 9]

    def pixels(order: list[int]) -> list[bytes]:
        """Each row's pixels, as the model meets them: without what the batch pads."""
        rows = [ROWS[i] for i in order]
        given = [prompt(reader, row) for row in rows]
        batch = noised(
            Prompts(reader, given, [row[1] for row in rows], [seeds[i] for i in order], None), 500
        )
        sizes = [
            len(encode(reader, [m], [row[1]])["pixel_values"])
            for m, row in zip(given, rows, strict=True)
        ]
        parts = torch.split(batch["pixel_values"], sizes)
        found = dict(zip(order, parts, strict=True))
        return [found[i][found[i] != 0].numpy().tobytes() for i in sorted(order)]

    together = pixels([0, 1, 2])
    assert pixels([2, 0, 1]) == together
    assert [pixels([i])[0] for i in range(3)] == together


def test_what_a_batch_pads_stays_zero() -> None:
    """SmolVLM and Idefics3 tell a picture from padding by its zeros."""
    _, reader = family("Idefics3")
    rows = [("a", [picture(0), picture(1)]), ("b", [picture(2)])]
    given = [prompt(reader, row) for row in rows]
    plain = encode(reader, given, [row[1] for row in rows])["pixel_values"]
    mixed = noised(Prompts(reader, given, [row[1] for row in rows], [1, 2], None), 500)[
        "pixel_values"
    ]
    padded = (plain == 0).flatten(2).all(-1)
    assert padded.any()
    assert torch.equal((mixed == 0).flatten(2).all(-1), padded)


def test_the_noise_is_standard_normal_and_new_for_every_seed() -> None:
    _, reader = family("LLaVA-1.5")
    given, images = [prompt(reader, ROWS[0])] * 2, [ROWS[0][1]] * 2
    clean = encode(reader, given, images)["pixel_values"]
    mixed = noised(Prompts(reader, given, images, [1, 2], None), 999)["pixel_values"]
    noise = (mixed - shares(999)[0] * clean) / shares(999)[1]
    assert noise.mean().abs() < 0.05
    assert (noise.std() - 1).abs() < 0.05
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.1


def test_uses_of_one_seed_draw_independently() -> None:
    first, second = (generator(5, use).random(1000) for use in ("noise", "choice"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1
    assert np.array_equal(generator(5, "noise").random(1000), first)
    assert generator(2**62 + 1, "a").random() != generator(2**62, "a").random()
