"""Prompts: fixed, of synthetic lengths, or from a set; with unique and shared prefixes. Pure and seeded.

Request number `n` of a card is always the same request, so that two cards of one seed send the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from load_tester.errors import BadInput
from load_tester.plan.loads import Frozen

_NUMBER = r"\s*(\d+(?:\.\d+)?)\s*"
_DETERMINISTIC = re.compile(rf"D\({_NUMBER},{_NUMBER}\)")
_SPREAD = re.compile(rf"([NU])\({_NUMBER},{_NUMBER}\)\s*/\s*\({_NUMBER},{_NUMBER}\)")
_MOST_TOKENS = 2_000_000
# Short everyday words: nearly every tokenizer has each, with the blank before it, as one token.
_TEXT = """
the of and to in is it you that he was for on are with as his they be at one have this from or had by hot but some what
there we can out other were all your when up use word how said an each she which do their time if will way about many
then them would write like so these her long make thing see him two has look more day could go come did my sound no most
number who over know water than call first people may down side been now find any new work part
"""
_WORDS = tuple(_TEXT.split())


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens, input and output: `draw` gives one pair, each at least 1."""

    draw: Callable[[random.Random], tuple[int, int]]


def parse_lengths(text: str) -> Lengths:
    """`D(in,out)`: always these. `N(mean,sd)/(mean,sd)`: normal. `U(low,high)/(low,high)`: even. Raises ValueError."""
    text = text.strip()
    if found := _DETERMINISTIC.fullmatch(text):
        fixed = (_tokens(float(found[1])), _tokens(float(found[2])))
        return Lengths(lambda _: fixed)
    if found := _SPREAD.fullmatch(text):
        a, b, c, d = (float(found[place]) for place in (2, 3, 4, 5))
        if found[1] == "N":
            return Lengths(lambda rng: (_tokens(rng.gauss(a, b)), _tokens(rng.gauss(c, d))))
        if a <= b and c <= d:
            return Lengths(lambda rng: (_tokens(rng.uniform(a, b)), _tokens(rng.uniform(c, d))))
    raise ValueError("expected D(in,out), N(mean,sd)/(mean,sd) or U(low,high)/(low,high), in tokens")


def _tokens(value: float) -> int:
    return max(1, min(_MOST_TOKENS, round(value)))


def _valid_lengths(text: str) -> str:
    parse_lengths(text)
    return text


class FixedPrompt(Frozen):
    """The same text every time."""

    kind: Literal["fixed"] = "fixed"
    text: Annotated[str, Field(min_length=1, max_length=2_000_000)] = "Say hello in one short sentence."


class SyntheticPrompt(Frozen):
    """Words without meaning, of lengths drawn for each request; the output length goes out as max_tokens."""

    kind: Literal["synthetic"]
    lengths: Annotated[str, AfterValidator(_valid_lengths)]


class PromptSet(Frozen):
    """Prompts of an uploaded file, one after another and from the front again."""

    kind: Literal["set"]
    set: Annotated[str, Field(min_length=1, max_length=64)]


Prompt = Annotated[FixedPrompt | SyntheticPrompt | PromptSet, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt of a set. `max_tokens` None: as the card says."""

    messages: tuple[dict[str, Any], ...]
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """All that turns numbers into prompts. `tag` makes unique prefixes differ from run to run."""

    prompt: FixedPrompt | SyntheticPrompt | PromptSet
    system_prompt: str
    unique_prefix: bool
    shared_prefix_tokens: int
    shared_prefix_groups: int
    max_tokens: int
    seed: int
    tag: str
    lines: Sequence[Line] = ()


class Prompts:
    """Messages and length limit of each request, by its number."""

    def __init__(self, shape: Shape) -> None:
        if isinstance(shape.prompt, PromptSet) and not shape.lines:
            raise BadInput("prompt.set", "the set holds no prompts")
        self._shape = shape
        self._lengths = parse_lengths(shape.prompt.lengths) if isinstance(shape.prompt, SyntheticPrompt) else None
        self._shared = [
            words(random.Random(f"{shape.seed}/{group}"), shape.shared_prefix_tokens) + "\n"
            for group in range(shape.shared_prefix_groups if shape.shared_prefix_tokens else 0)
        ]

    def request(self, number: int) -> tuple[list[dict[str, Any]], int]:
        """Messages, and max_tokens or 0 for none."""
        shape = self._shape
        limit = shape.max_tokens
        if isinstance(shape.prompt, PromptSet):
            line = shape.lines[number % len(shape.lines)]
            messages = [dict(message) for message in line.messages]
            limit = limit if line.max_tokens is None else line.max_tokens
        else:
            text, limit = self._text(number, limit)
            messages = [{"role": "user", "content": text}]
        prefix = self._prefix(number)
        if shape.system_prompt:
            messages.insert(0, {"role": "system", "content": shape.system_prompt})
        if prefix:
            # In front of everything, where a prefix cache begins to compare.
            first = messages[0]
            if isinstance(first.get("content"), str):
                messages[0] = {**first, "content": prefix + first["content"]}
            else:
                messages.insert(0, {"role": "system", "content": prefix})
        return messages, limit

    def _text(self, number: int, limit: int) -> tuple[str, int]:
        prompt = self._shape.prompt
        if isinstance(prompt, FixedPrompt):
            return prompt.text, limit
        assert self._lengths is not None  # noqa: S101 - made with the same condition
        rng = random.Random(f"{self._shape.seed}:{number}")
        tokens_in, tokens_out = self._lengths.draw(rng)
        return words(rng, tokens_in), tokens_out

    def _prefix(self, number: int) -> str:
        shape = self._shape
        shared = self._shared[number % len(self._shared)] if self._shared else ""
        # What is shared comes first: behind something unique no cache could share it.
        return shared + (f"[{shape.tag}-{number}] " if shape.unique_prefix else "")


def words(rng: random.Random, count: int) -> str:
    """About `count` tokens of text."""
    return " ".join(rng.choices(_WORDS, k=count))
