"""A reward that is a Python function with the signature of TRL's."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from inspect import Parameter
from pathlib import Path
from typing import Any

from .reward import Text, finite

GIVEN = ("prompts", "completions")


@dataclass(frozen=True)
class PlainReward:
    """A function itself: `f(prompts, completions, **columns) -> list[float]`.

    It's called by keyword, as TRL does; a column that it names must be in the data. What TRL's
    trainers pass beside columns (`completion_ids`, `trainer_state`, ...) isn't there.

    Attributes:
        function: To call.
        name: What complaints call it.
    """

    function: Callable[..., Sequence[Any]]
    name: str

    def fingerprint(self) -> Mapping[str, Any]:
        """The name, and a digest of all code of the function's module."""
        module = sys.modules.get(str(getattr(self.function, "__module__", None)))
        source = Path(getattr(module, "__file__", None) or "")
        code = source.read_bytes() if source.is_file() else b""
        digest = sha256(code).hexdigest()[:16]
        return {"function": self.name, f"code of {source.name or 'it'}": digest}

    def check(self, columns: Collection[str]) -> None:
        """Refuse a function that names a column which the data doesn't have."""
        for parameter in inspect.signature(self.function).parameters.values():
            named = parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
            known = parameter.name in (*GIVEN, *columns)
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                raise ValueError(
                    f"{self.name} is called by keyword, but {parameter.name} has none."
                )
            if named and parameter.default is Parameter.empty and not known:
                raise ValueError(
                    f"{self.name} reads the column {parameter.name!r}, but the data's are "
                    f"{', '.join(columns) or 'none'}. Add it, or rename the parameter."
                )

    def __call__(
        self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]
    ) -> list[float]:
        self.check(columns)
        parameters = inspect.signature(self.function).parameters
        given = {"prompts": prompts, "completions": completions, **columns}
        if not any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values()):
            given = {name: value for name, value in given.items() if name in parameters}
        return finite(self.function(**given), len(completions), self.name)


@dataclass(frozen=True)
class FunctionReward:
    """A function by its dotted path, called as `PlainReward` is.

    The working directory is searched for its module too.

    Attributes:
        path: Such as `contralign.eval.scenes.recall_reward`.
    """

    path: str

    @cached_property
    def function(self) -> Callable[..., Sequence[Any]]:
        """The function itself.

        Raises:
            ValueError: There is none of that path, or it can't be called as a reward.
        """
        module, dot, name = self.path.rpartition(".")
        if not dot:
            raise ValueError(
                f"reward_funcs is a dotted path, got {self.path!r}. Write package.module.function, "
                "such as trl.rewards.accuracy_reward."
            )
        found = getattr(_module(module, self.path), name, None)
        if not callable(found) or inspect.iscoroutinefunction(found):
            kind = "an async function" if callable(found) else "no function"
            raise ValueError(
                f"reward_funcs names a function, but {module} has {kind} {name!r}. Correct the "
                "path."
            )
        return found

    @cached_property
    def plain(self) -> PlainReward:
        """The function, called as itself."""
        return PlainReward(self.function, self.path)

    def fingerprint(self) -> Mapping[str, Any]:
        return self.plain.fingerprint()

    def check(self, columns: Collection[str]) -> None:
        self.plain.check(columns)

    def __call__(
        self, prompts: Sequence[Text], completions: Sequence[Text], **columns: Sequence[Any]
    ) -> list[float]:
        return self.plain(prompts, completions, **columns)


def _module(name: str, path: str) -> Any:
    with _working_directory():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise ValueError(
                f"reward_funcs names a function that can be imported, got {path!r}, but there is "
                f"no module {error.name}. Correct the path, or start where the module lies."
            ) from error


@contextmanager
def _working_directory() -> Iterator[None]:
    """Let modules be found where the command was started, as TRL does."""
    place = str(Path.cwd())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
