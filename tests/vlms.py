"""Tiny random vision-language models of eleven families, with their processors; no download.

Their processors for videos need torchvision: without it they are built for pictures only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import torch
import transformers as hf
from align_vlms import CHATML, byte_tokenizer, tiny_llava

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
}
EYES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
SQUARE = {"height": 28, "width": 28}
SIGLIP = {**EYES, "model_type": "siglip_vision_model", "vision_use_head": False}
QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
IDEFICS = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
INTERN = {
    "context_image_token": "<IMG_CONTEXT>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "video_token": "<video>",
}
GEMMA = {
    "image_token": "<image_soft_token>",
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
}

Family = tuple[Any, Any]


def template(place: str) -> str:
    """A chat template with `place` for a picture; it writes no first token."""
    return CHATML.replace("<|vision_start|><|image_pad|><|vision_end|>", place)


def _tokenizer(tokens: dict[str, str], **options: Any) -> Any:
    return byte_tokenizer(*tokens.values(), extra_special_tokens=tokens, **options)


def _text(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    return {**TEXT, "vocab_size": len(tokenizer), **changes}


def _processor(kind: Any, images: Any, tokenizer: Any, videos: str, **options: Any) -> Any:
    if find_spec("torchvision"):
        return kind(images, tokenizer, getattr(hf, videos)(), **options)

    class PicturesOnly(kind):
        video_processor = SimpleNamespace(num_frames=1, fps=1)

        def __init__(self, image_processor: Any = None, tokenizer: Any = None, **given: Any):
            super().__init__(image_processor, tokenizer, None, **given)

    return PicturesOnly(images, tokenizer, **options)


def _llava_onevision() -> Family:
    tokenizer = _tokenizer({"image_token": "<image>", "video_token": "<video>"})
    grid = [[28, 28], [28, 56], [56, 28]]
    config = hf.LlavaOnevisionConfig(
        vision_config=SIGLIP,
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=grid,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    processor = _processor(
        hf.LlavaOnevisionProcessor,
        hf.LlavaOnevisionImageProcessorPil(size=SQUARE, image_grid_pinpoints=grid),
        tokenizer,
        "LlavaOnevisionVideoProcessor",
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=template("<image>\n"),
    )
    return hf.LlavaOnevisionForConditionalGeneration(config), processor


def _qwen(number: str, rope: dict[str, Any], vision: dict[str, Any], videos: str) -> Family:
    tokenizer = _tokenizer(QWEN, unk_token=None)
    config = getattr(hf, f"Qwen{number}Config")(
        text_config=_text(tokenizer, rope_parameters={**ROPE, **rope}, head_dim=8),
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "num_heads": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            **vision,
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
        tie_word_embeddings=False,
    )
    processor = _processor(
        getattr(hf, f"Qwen{number}Processor"),
        hf.Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=84 * 84, patch_size=14),
        tokenizer,
        videos,
        chat_template=CHATML,
    )
    return getattr(hf, f"Qwen{number}ForConditionalGeneration")(config), processor


def _qwen2_vl() -> Family:
    return _qwen("2VL", {}, {"embed_dim": 32, "mlp_ratio": 2}, "Qwen2VLVideoProcessor")


def _qwen2_5_vl() -> Family:
    vision = {
        "out_hidden_size": 32,
        "intermediate_size": 64,
        "window_size": 56,
        "fullatt_block_indexes": [1],
    }
    return _qwen("2_5_VL", {}, vision, "Qwen2VLVideoProcessor")


def _qwen3_vl() -> Family:
    vision = {
        "out_hidden_size": 32,
        "intermediate_size": 64,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    return _qwen("3VL", {"mrope_interleaved": True}, vision, "Qwen3VLVideoProcessor")


def _idefics(name: str) -> Family:
    tokenizer = _tokenizer(IDEFICS)
    config = getattr(hf, f"{name}Config")(
        vision_config={**EYES, "patch_size": 7},
        text_config={"model_type": "llama", **_text(tokenizer)},
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    edge = {"longest_edge": 28}
    images = getattr(hf, f"{name}ImageProcessorPil")(
        size={"longest_edge": 56}, max_image_size=edge, do_image_splitting=True
    )
    options = {"image_seq_len": 4, "chat_template": template("<image>")}
    if name == "Idefics3":
        processor = hf.Idefics3Processor(images, tokenizer, **options)
    else:
        processor = _processor(
            hf.SmolVLMProcessor, images, tokenizer, "SmolVLMVideoProcessor", **options
        )
    return getattr(hf, f"{name}ForConditionalGeneration")(config), processor


def _internvl() -> Family:
    tokenizer = _tokenizer(INTERN)
    config = hf.InternVLConfig(
        vision_config={**EYES, "image_size": [28, 28], "patch_size": [7, 7]},
        text_config={"model_type": "qwen2", **_text(tokenizer)},
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    processor = _processor(
        hf.InternVLProcessor,
        hf.GotOcr2ImageProcessorPil(size=SQUARE, min_patches=1, max_patches=2),
        tokenizer,
        "InternVLVideoProcessor",
        image_seq_length=4,
        chat_template=template("<IMG_CONTEXT>\n"),
    )
    return hf.InternVLForConditionalGeneration(config), processor


def _gemma3() -> Family:
    tokenizer = _tokenizer(GEMMA)
    config = hf.Gemma3Config(
        vision_config=SIGLIP,
        text_config={
            "model_type": "gemma3_text",
            **_text(tokenizer, head_dim=8, sliding_window=48, initializer_range=0.4),
        },
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    processor = hf.Gemma3Processor(
        hf.Gemma3ImageProcessorPil(size=SQUARE),
        tokenizer,
        chat_template=template("<start_of_image>"),
        image_seq_length=4,
    )
    return hf.Gemma3ForConditionalGeneration(config), processor


def _paligemma() -> Family:
    tokenizer = _tokenizer({"image_token": "<image>"})
    config = hf.PaliGemmaConfig(
        vision_config={**SIGLIP, "projection_dim": 32},
        text_config={"model_type": "gemma", **_text(tokenizer, head_dim=8)},
        image_token_index=tokenizer.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    images = hf.SiglipImageProcessorPil(size=SQUARE, image_seq_length=4)
    return hf.PaliGemmaForConditionalGeneration(config), hf.PaliGemmaProcessor(images, tokenizer)


def _instructblip() -> Family:
    tokenizer, reader = byte_tokenizer(), byte_tokenizer()
    processor = hf.InstructBlipProcessor(
        hf.BlipImageProcessorPil(size=SQUARE), tokenizer, reader, num_query_tokens=4
    )
    config = hf.InstructBlipConfig(
        vision_config=EYES,
        qformer_config={
            **{key: EYES[key] for key in list(EYES)[:4]},
            "vocab_size": len(reader),
            "encoder_hidden_size": 32,
            "max_position_embeddings": 512,
        },
        text_config={"model_type": "llama", **_text(tokenizer)},
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return hf.InstructBlipForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], Family]] = {
    "LLaVA-1.5": tiny_llava,
    "LLaVA-OneVision": _llava_onevision,
    "Qwen2-VL": _qwen2_vl,
    "Qwen2.5-VL": _qwen2_5_vl,
    "Qwen3-VL": _qwen3_vl,
    "SmolVLM": lambda: _idefics("SmolVLM"),
    "Idefics3": lambda: _idefics("Idefics3"),
    "InternVL": _internvl,
    "Gemma 3": _gemma3,
    "PaliGemma": _paligemma,
    "InstructBLIP": _instructblip,
}


@cache
def family(name: str) -> Family:
    """A model with its processor; the same objects each time, so don't change them."""
    torch.manual_seed(0)
    model, processor = FAMILIES[name]()
    for parameter in model.parameters():  # large enough that the picture matters
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.4 if "Gemma" in name else 0.15)
    model = model.float().eval()
    for talker in {model, getattr(model, "language_model", model)}:
        if hasattr(talker, "generation_config"):
            talker.generation_config = hf.GenerationConfig(pad_token_id=0)
    return model, processor
