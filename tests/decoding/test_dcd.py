"""DCD: what it is besides a column of the vision table."""

from __future__ import annotations

import copy
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from eval_doubles import tiny_llama
from peft import LoraConfig, get_peft_model
from projected import folder, swapped
from vision_cases import GREEDY, QUESTIONS, Setting
from vision_reference import next_logits, prompt
from vision_table import FAMILIES
from vlms import family

from contralign.decoding import DCD, CutoffOnly, encode, generate, parse, processor
from contralign.decoding.prefix import Prefixes
from contralign.decoding.projections import Base, Projections
from contralign.decoding.projectors import tensors

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
LLAVA, NEG, POS = "LLaVA-1.5", "dcd:path=neg_only", "dcd:path=pos_neg;alpha=0.5;cutoff=none"
BEAMS: dict[str, Any] = {
    "num_beams": 3,
    "return_dict_in_generate": True,
    "output_scores": True,
    "length_penalty": 0.0,
}
VISION = r".*vision_tower.*(q_proj|v_proj)|.*projector.linear_1|.*language_model.*q_proj"


def test_the_rule_by_hand() -> None:
    expert, negative = torch.tensor([[2.0, 1.0, -9.0]]), torch.tensor([[3.0, 0.0, 0.0]])
    assert DCD(alpha=2.0).rule(expert, negative).tolist() == [[0.0, 3.0, -math.inf]]
    assert DCD(cutoff=None).rule(expert, negative).tolist() == [[1.0, 2.0, -18.0]]


@pytest.mark.parametrize("name", FAMILIES)
def test_with_the_models_own_projection_nothing_is_subtracted(name: str, tmp_path: Path) -> None:
    case = Setting(name, NEG)
    Projections(Base.of(case.model), tensors(case.model)).save(tmp_path)
    method = DCD.from_pretrained(tmp_path, alpha=3.0)
    found = generate(case.model, case.inputs, method, case.inputs, **GREEDY)
    assert torch.equal(found, generate(case.model, case.inputs, CutoffOnly(), **GREEDY))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", [NEG, POS])
def test_the_tower_looks_once(name: str, method: str) -> None:
    case, looks = Setting(name, method), []
    eye = next(m for m in case.model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d))
    hook = eye.register_forward_hook(lambda *_: looks.append(1))
    ids = case.view("merged")
    hook.remove()
    assert looks == [1]
    assert ids == case.loop()[0]


@pytest.mark.parametrize("method", [NEG, POS])
def test_the_base_is_never_changed_and_threads_dont_meet(method: str) -> None:
    cases = [
        Setting(LLAVA, method),
        Setting(LLAVA, "vcd"),
        Setting(LLAVA, "ritual+dcd:path=pos_neg"),
    ]
    model = cases[0].model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parts = list(model.modules())
    expected = [case.loop()[0] for case in cases]
    jobs = [case for _ in range(4) for case in cases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda case: case.view(), jobs))
    assert found == expected * 4
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(new is old for new, old in zip(model.modules(), parts, strict=True))


@pytest.mark.parametrize("name", [LLAVA, "Qwen2.5-VL", "InstructBLIP"])
@pytest.mark.parametrize("method", [NEG, POS])
def test_beams_sum_the_log_probs_of_two_models(name: str, method: str) -> None:
    case = Setting(name, method)
    options = {**GREEDY, **BEAMS}
    given = (case.model, case.inputs, case.method, case.branch)
    found: list[Any] = [generate(*given, way, **options) for way in ("merged", "sequential")]
    added = processor(*given)
    found.append(case.model.generate(**case.inputs, **options, logits_processor=[added]))
    tokens = [case.new(one.sequences) for one in found]
    assert tokens[0] == tokens[1] == tokens[2]
    for row, said in enumerate(tokens[0]):
        total = 0.0
        for step, token in enumerate(said):
            read = [next_logits(case.model, rows[row], said[:step]) for rows in case.branches]
            total += case.rule(step, *read).log_softmax(-1)[token].item()
        assert found[0].sequences_scores[row].item() == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("method", [NEG, POS])
def test_a_processor_keeps_the_bans_of_generate(method: str) -> None:
    case = Setting(LLAVA, method)
    banned = [[token] for row in case.view() for token in row]
    assert case.drop_in(bad_words_ids=banned) == case.view(bad_words_ids=banned) != case.view()


@pytest.mark.parametrize("method", [NEG, POS, "ritual+dcd:path=pos_neg"])
def test_questions_about_one_picture_share_it(method: str) -> None:
    case = Setting(LLAVA, method)
    images = [QUESTIONS[0][1]] * 3
    messages = [prompt(case.processor, (text, images[0])) for text in ("What?", "Why?", "Where?")]

    def both(end: int) -> Any:
        given = messages[:end], images[:end]
        branch = case.method.branches(case.processor, *given, seeds=[5] * end)
        return encode(case.processor, *given), branch

    inputs, branch = both(3)
    prefixes = Prefixes(case.model)
    found = [prefixes.first_logits(inputs, case.method, branch, both(1)) for _ in range(2)]
    alone = prefixes.first_logits(inputs, case.method, branch)
    assert prefixes.shared == 2 * (1 + case.method.contrasts)
    for read in found:
        for logits, expected in zip(read, alone, strict=True):
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_an_aligned_model_keeps_its_adapter() -> None:
    case = Setting(LLAVA, NEG)
    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=VISION, init_lora_weights=False)
    tuned = get_peft_model(copy.deepcopy(case.model), config)
    negative = get_peft_model(copy.deepcopy(case.model), config)
    weights = {**tuned.state_dict()}
    for name, value in swapped(case.model, "negative").state_dict().items():
        if "projector" in name:
            start, _, end = name.rpartition(".")
            inside = f"{start}.base_layer.{end}" if "linear_1" in name else name
            weights[f"base_model.model.{inside}"] = value
    weights = {
        name: torch.zeros_like(value) if "projector" in name and "lora" in name else value
        for name, value in weights.items()
    }
    negative.load_state_dict(weights)
    plain = case.view()
    case.branches[1] = [{**inputs, "model": negative} for inputs in case.branches[1]]
    case.model = tuned
    assert case.view() == case.loop()[0] != plain


def refused(case: Setting, model: Any, branch: Any, method: DCD, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        generate(model, case.inputs, method, branch, **GREEDY)


def test_what_it_cant_contrast_is_refused(tmp_path: Path) -> None:
    case = Setting(LLAVA, NEG)
    model, inputs, method = case.model, case.inputs, case.method
    assert isinstance(method, DCD)
    words = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    refused(case, model, inputs, DCD(), "needs trained projections, got path=None")
    refused(case, model, inputs, DCD("nowhere"), "nowhere holds no projections.safetensors")
    refused(case, model, words, method, "about pictures, got inputs of input_ids, attention_mask")
    blind = inputs["input_ids"].clone()
    blind[1] = blind[1].masked_fill(blind[1] == model.config.image_token_id, 5)
    refused(case, model, {**inputs, "input_ids": blind}, method, r"prompts \[1\] have none")
    refused(case, model, None, method, r"reads 1 contrast branch\(es\), got 0")
    refused(case, tiny_llama(), inputs, method, "LlamaForCausalLM reads text alone")
    other = family("Gemma 3")[0]
    refused(case, other, inputs, method, "has the shape .* saved is None")
    with pytest.raises(ValueError, match=r"prompts \[0\] have none"):
        method.branches(case.processor, ["What?"], [[]])
    with pytest.raises(ValueError, match=r"holds no projections\.safetensors"):
        DCD.from_pretrained(tmp_path)


def test_it_is_read_from_its_folder() -> None:
    where = folder(family(LLAVA)[0], "neg_only")
    assert DCD.from_pretrained(where, alpha=0.5) == DCD(str(where), alpha=0.5)


def test_its_digest_is_of_the_weights(tmp_path: Path) -> None:
    model = family(LLAVA)[0]
    wheres = [folder(model, variant) for variant in ("neg_only", "pos_neg")]
    digests = [DCD.from_pretrained(where).digest for where in wheres]
    assert len({*digests, DCD().digest}) == 3
    shutil.copytree(wheres[0], tmp_path / "copy")
    assert parse(f"ritual+dcd:path={tmp_path / 'copy'}").method.digest == digests[0]
