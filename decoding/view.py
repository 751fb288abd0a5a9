"""A view of a model through which unmodified `generate` decodes with a contrast.

The view shares the user's modules and changes none. It is an instance of a subclass of the user's
own model class, so every option of `generate` works: it sees B rows, while each decode forward runs
the rows of all branches. The order is branch logits -> rule -> the user's logits processors ->
temperature, top-k, top-p -> token.

Relies on private parts of transformers (`_prefill`, `_assisted_decoding`, `_reorder_cache`, cache
layers): the supported range in pyproject.toml is the tested one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList, PreTrainedModel

from .contrast import Contrast
from .inputs import as_branches, check_mapping
from .method import Inputs, Method
from .refusals import refuse_method, refuse_options, unwrapped
from .replausible import NoPlaces, Replausible
from .sources import resolved
from .speaker import speaker, with_speaker

if TYPE_CHECKING:
    from transformers.generation import GenerateOutput
    from transformers.utils import ModelOutput

EXECUTIONS = ("auto", "merged", "sequential")


class _View(GenerationMixin):
    """Mixed into a subclass of the user's model class by `wrap`."""

    _wrapped: tuple[PreTrainedModel, Method, list[Inputs], str]
    _contrast: Contrast

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Any:
        whole, method, branch, execution = self._wrapped
        base = speaker(whole)
        kwargs["generation_config"] = generation_config
        refuse_options(base, kwargs, handed=() if base is whole else ("inputs_embeds",))
        given = {"input_ids": inputs} if inputs is not None else {}
        given |= {
            key: value
            for key, value in kwargs.items()
            if isinstance(value, Tensor) or key == "attention_mask"
        }
        sources = resolved(whole, given, method, branch)
        kwargs["attention_mask"] = sources.main["attention_mask"]
        self.__dict__["_contrast"] = Contrast(base, method, sources, execution)
        try:
            result = super().generate(inputs, **kwargs)
        finally:
            del self.__dict__["_contrast"]
        if not isinstance(result, Tensor):
            # It holds the rows of every branch, which nothing but this view could go on from.
            result.past_key_values = None
        return result

    def _get_logits_processor(
        self, generation_config: GenerationConfig, *args: Any, **kwargs: Any
    ) -> LogitsProcessorList:
        if generation_config.guidance_scale not in (None, 1, 1.0):
            raise ValueError(
                "guidance_scale adds transformers' own contrast to this method's, got "
                f"{generation_config.guidance_scale}. Use the method CFG alone, or leave it out."
            )
        last = Replausible(self._contrast, beams=(generation_config.num_beams or 1) > 1)
        users = kwargs.pop("logits_processor", None) or []
        mute = [NoPlaces(places)] if (places := self._contrast.places) else []
        own = LogitsProcessorList([*mute, *users, last])
        processors = super()._get_logits_processor(
            generation_config, *args, logits_processor=own, **kwargs
        )
        last.before = LogitsProcessorList(processors[: processors.index(last)])
        return processors

    def _prefill(
        self,
        input_ids: Tensor,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        is_first_iteration: bool = True,
    ) -> ModelOutput:
        contrast = self._contrast
        length = input_ids.shape[1]
        contrast.check_room(length, generation_config)
        if contrast.exits:
            model_kwargs["output_hidden_states"] = True
        outputs = contrast.base._prefill(
            input_ids, generation_config, model_kwargs, is_first_iteration
        )
        return contrast.prefill(outputs, model_kwargs, input_ids, length, generation_config)

    # generate reads this method's signature to decide what to pass.
    @wraps(GenerationMixin._assisted_decoding)
    def _assisted_decoding(
        self, input_ids: Tensor, *args: Any, generation_config: GenerationConfig, **kwargs: Any
    ) -> Any:
        self._contrast.check_room(input_ids.shape[1], generation_config)
        self._contrast.drafting = True
        self.__dict__["_prompt"] = (input_ids.shape[1], generation_config)
        if self._contrast.exits:
            kwargs["output_hidden_states"] = True
        return super()._assisted_decoding(
            input_ids, *args, generation_config=generation_config, **kwargs
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        contrast = self._contrast
        if inputs_embeds is not None:
            kwargs["inputs_embeds"] = inputs_embeds
        if not contrast.started:
            self.__dict__["_first"] = (input_ids, kwargs)
        elif next_sequence_length is not None:
            contrast.count = next_sequence_length
            contrast.length = input_ids.shape[1] - next_sequence_length + 1
            if contrast.execution is not None:
                input_ids, kwargs = contrast.execution.before(
                    input_ids, next_sequence_length, kwargs
                )
        return contrast.base.prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, **kwargs
        )

    def __call__(self, *args: Any, **kwargs: Any) -> ModelOutput:
        return self._decoded(self._contrast.base, *args, **kwargs)

    def get_compiled_call(self, compile_config: Any) -> Callable[..., ModelOutput]:
        compiled = self._contrast.base.get_compiled_call(compile_config)
        return lambda *args, **kwargs: self._decoded(compiled, *args, **kwargs)

    def _decoded(self, forward: Callable[..., ModelOutput], *args: Any, **kwargs: Any) -> Any:
        contrast = self._contrast
        outputs = forward(*args, **kwargs)
        if not contrast.started:
            # Assisted decoding has no prefill of its own: its first forward reads prompt and draft.
            (ids, first), (length, config) = self.__dict__["_first"], self.__dict__["_prompt"]
            return contrast.prefill(outputs, first, ids, length, config)
        execution = contrast.execution
        contrasts = [] if execution is None else execution.after(outputs)
        return contrast.mix(outputs, contrasts)

    def _reorder_cache(self, cache: Any, beam_idx: Tensor) -> Any:
        if self._contrast.execution is None:
            cache.reorder_cache(beam_idx)
        else:
            self._contrast.execution.reorder(cache, beam_idx)
        return cache


def check_call(
    model: nn.Module, inputs: Inputs, method: Method, branch: Sequence[Inputs], execution: str
) -> None:
    """Refuse what `generate`, or of a method for closed answers `score`, would; nothing is read.

    Raises:
        ValueError: Inputs, branches or an execution that can't be.
    """
    whole = method.expert(unwrapped(model))
    sources = resolved(whole, inputs, method, branch)
    if method.generates:
        wrap(model, method, branch, execution)
        Contrast(speaker(whole), method, sources, execution)


def wrap(
    model: nn.Module,
    method: Method,
    branch: Inputs | Sequence[Inputs] | None = None,
    execution: str = "auto",
) -> PreTrainedModel:
    """Return a view of `model` whose `generate` decodes with `method`; also for `pipeline`.

    Args:
        model: A generating transformers model, PEFT-wrapped or compiled ones included; its weights
            and settings are shared and never changed.
        method: What to decode with.
        branch: The contrast branches' inputs, from `method.branches(...)`: they belong to one batch
            of prompts, so make a view for every batch.
        execution: "merged" runs all branches in one forward, "sequential" one after the other,
            "auto" merges where that is possible.

    Raises:
        ValueError: An unknown execution, or a model that can't be decoded with a contrast.
    """
    if execution not in EXECUTIONS:
        raise ValueError(f"execution must be one of {', '.join(EXECUTIONS)}, got {execution!r}.")
    refuse_method(method)
    whole = method.expert(unwrapped(model))
    base = speaker(whole)
    view = object.__new__(_view_class(base.__class__))
    # What a patched model carries under the view's own names must not hide them.
    view.__dict__.update({k: v for k, v in vars(base).items() if k not in vars(_View)})
    view.__dict__["_wrapped"] = (whole, method, as_branches(branch), execution)
    return with_speaker(whole, view)


def generate(
    model: nn.Module,
    inputs: Inputs,
    method: Method,
    branch: Inputs | Sequence[Inputs] | None = None,
    execution: str = "auto",
    **options: Any,
) -> GenerateOutput | Tensor:
    """Generate with a decoding method and the options of `model.generate`.

    Args:
        model: A generating transformers model, PEFT-wrapped or compiled ones included.
        inputs: The main prompts, left padded, with their attention mask.
        method: What to decode with.
        branch: The contrast branches' inputs, from `method.branches(...)`.
        execution: See `wrap`.
        **options: Options of `model.generate`; those that can't go with a contrast are refused.

    Returns:
        What `model.generate` returns: ids `[rows, prompt + new]`, or an output object, whose
        `past_key_values` is None and whose `scores` are the method's.

    Raises:
        ValueError: Inputs, branches or options that can't be decoded.
    """
    check_mapping(inputs, "the main prompt")
    return wrap(model, method, branch, execution).generate(**inputs, **options)


@cache
def _view_class(cls: Any) -> Any:
    # transformers looks at the class's name and module, so the view carries the user's.
    return type(cls.__name__, (_View, cls), {"__module__": cls.__module__})
