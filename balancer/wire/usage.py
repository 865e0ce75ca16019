"""Token counts: from the usage objects that endpoints send, and by rule where they send none.

Never raises on what an endpoint sent: nonsense counts as absent.
"""

from __future__ import annotations

from balancer.core.endpoints import Provenance, Usage

# Beyond this, JSON numbers lose their last digits in most readers; no answer has as many tokens.
_MOST_TOKENS = 2**53
_BYTES_PER_TOKEN = 4
_REPORTED = Provenance.REPORTED


def parse_usage(value: object) -> Usage | None:
    """The counts of a usage object, None if it holds no usable one.

    Known shapes: chat and completions `{prompt_tokens, completion_tokens}`, embeddings `{prompt_tokens,
    total_tokens}`, responses `{input_tokens, output_tokens}`, rerank `{total_tokens}`. A missing half is the rest of
    the total, or 0.
    """
    if not isinstance(value, dict):
        return None
    prompt, completion = value.get("prompt_tokens"), value.get("completion_tokens")
    if type(prompt) is type(completion) is int and 0 <= prompt <= _MOST_TOKENS and 0 <= completion <= _MOST_TOKENS:
        # As almost all say it. By its name the tuple would cost four times as much.
        return tuple.__new__(Usage, (prompt, completion, _REPORTED))
    prompt = _count(value, "prompt_tokens", "input_tokens")
    completion = _count(value, "completion_tokens", "output_tokens")
    total = _count(value, "total_tokens")
    if prompt is None and completion is None:
        return None if total is None else Usage(total, 0)
    if prompt is None:
        prompt = max(0, (total or 0) - (completion or 0))
    if completion is None:
        completion = max(0, (total or 0) - prompt)
    return Usage(prompt, completion)


def _count(usage: dict[str, object], *names: str) -> int | None:
    """The first usable number of tokens under `names`."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value <= _MOST_TOKENS:  # a bool is an int by inheritance
            return value
    return None


def final_usage(reported: Usage | None, *, prompt_bytes: int, events: int, answer_bytes: int, complete: bool) -> Usage:
    """What an answer is counted as when it is over; the one rule for counts that were not simply reported.

    * reported, and the answer complete: as reported.
    * reported, but the answer was cut: the last numbers that came, marked partial.
    * not reported: prompt tokens are a quarter of the request's bytes; completion tokens are one per event of a
      stream (`events`), without a stream a quarter of `answer_bytes`. Marked estimated, or partial if cut.

    Pass `answer_bytes=0` where the answer is not generated text (`Operation.generates_text`): vectors and scores are
    long, but cost no completion tokens.
    """
    if reported is not None:
        return reported if complete else reported._replace(provenance=Provenance.PARTIAL)
    return Usage(
        prompt_bytes // _BYTES_PER_TOKEN,
        events or answer_bytes // _BYTES_PER_TOKEN,
        Provenance.ESTIMATED if complete else Provenance.PARTIAL,
    )
