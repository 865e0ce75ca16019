"""Everything that can be set on a fake backend, as one frozen value and one table.

The fields of `Behaviour` carry their own help, ranges and choices, so that the command line, the HTTP interface
and the constructor check alike. Pure: no sockets, no clock.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

UsageStyle = Literal["final_chunk", "always", "every_chunk", "with_choices", "never", "reject_include_usage"]
FaultName = Literal[
    "none",
    "refuse",
    "reset",
    "stall_headers",
    "stall_body",
    "cut",
    "malformed",
    "bad_json",
    "html",
    "status",
    "error_in_200",
    "empty_stream",
    "redirect",
]
FaultScope = Literal["post", "get", "all"]

_HEADER_LINE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: ?[\x20-\x7e]*")
_PRINTABLE_ASCII = re.compile(r"[\x20-\x7e]*")
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_LINE_ENDINGS = MappingProxyType({"lf": "\n", "crlf": "\r\n"})
_EXPECTED = MappingProxyType(
    {bool: "true or false", int: "a whole number", float: "a number", str: "a string", tuple: "a list of strings"}
)


class BadBehaviour(ValueError):
    """A value that a fake backend cannot take; `field` names it, `problem` says what is wrong with it."""

    def __init__(self, field_name: str, problem: str) -> None:
        self.field = field_name
        self.problem = problem
        super().__init__(f"{field_name}: {problem}")


def _about(
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    pattern: re.Pattern[str] | None = None,
) -> dict[str, Any]:
    """The rest of a row of the table: help and limits; the default decides the type."""
    return {"help": text, "low": low, "high": high, "choices": tuple(choices), "pattern": pattern}


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a fake backend answers. Every field is checked on construction; `BadBehaviour` names the wrong one."""

    name: str = field(
        default="fake",
        metadata=_about("its name: `owned_by` of its models, header x-fake-name", pattern=_VISIBLE_ASCII),
    )
    api_key: str = field(
        default="",
        repr=False,
        metadata=_about("bearer key to demand; empty demands none", pattern=_PRINTABLE_ASCII),
    )
    models: tuple[str, ...] = field(
        default=("fake-model",), metadata=_about("model ids it serves; an empty list takes any")
    )
    headers: tuple[str, ...] = field(
        default=(),
        metadata=_about('header lines added to every answer, as "name: value"', pattern=_HEADER_LINE),
    )

    prompt_tokens: int = field(
        default=0,
        metadata=_about("prompt tokens reported; 0: a quarter of the request's bytes", low=0, high=10_000_000),
    )
    completion_tokens: int = field(
        default=0,
        metadata=_about(
            "length of an answer in tokens, cut to what the request allows; 0: all that it allows, else 16",
            low=0,
            high=1_000_000,
        ),
    )
    completion_sigma: float = field(
        default=0.0,
        metadata=_about(
            "spread of the length: sigma of a log-normal with that mean; from 1 on heavy-tailed", low=0, high=4
        ),
    )
    seed: int = field(default=0, metadata=_about("seed of lengths and of fault_probability", low=0, high=2**63 - 1))

    ttft_seconds: float = field(default=0.0, metadata=_about("time to the first token, in seconds", low=0, high=86_400))
    tpot_seconds: float = field(default=0.0, metadata=_about("time per further token, in seconds", low=0, high=3_600))
    slowdown_per_inflight: float = field(
        default=0.0, metadata=_about("f in: all times x (1 + f x (requests in flight - 1))", low=0, high=1_000)
    )
    tokens_per_chunk: int = field(default=1, metadata=_about("tokens in each event of a stream", low=1, high=1_000_000))
    chunks_per_write: int = field(
        default=0,
        metadata=_about(
            "events of a stream written at once; 0: one with pacing, as many as fit without",
            low=0,
            high=1_000_000,
        ),
    )

    usage_style: UsageStyle = field(
        default="final_chunk",
        metadata=_about("when a stream reports its usage", choices=get_args(UsageStyle)),
    )
    line_ending: str = field(
        default="\n", metadata=_about("line ending of a stream", choices=tuple(_LINE_ENDINGS.values()))
    )
    data_space: bool = field(default=True, metadata=_about('write "data: " rather than "data:"'))
    done_in_own_packet: bool = field(
        default=False, metadata=_about("send [DONE] a moment later, in a packet of its own")
    )

    fault: FaultName = field(default="none", metadata=_about("what goes wrong", choices=get_args(FaultName)))
    fault_scope: FaultScope = field(
        default="post",
        metadata=_about("requests that a fault hits: post spares the model lists", choices=get_args(FaultScope)),
    )
    fault_after: int = field(
        default=0,
        metadata=_about(
            "events of a stream sent before stall_body, cut, bad_json, error_in_200", low=0, high=1_000_000
        ),
    )
    fault_probability: float = field(
        default=1.0, metadata=_about("chance of each request to meet the fault", low=0, high=1)
    )
    fault_count: int = field(
        default=0,
        metadata=_about("faults to commit before turning to none by itself; 0: no end", low=0, high=1_000_000),
    )
    fault_status: int = field(default=500, metadata=_about("the answer of fault status", low=400, high=599))
    fault_code: str = field(
        default="", metadata=_about('code in the error body of fault status, such as "insufficient_quota"')
    )
    retry_after: str = field(
        default="", metadata=_about("Retry-After of fault status, as is", pattern=_PRINTABLE_ASCII)
    )
    retry_after_ms: str = field(
        default="", metadata=_about("retry-after-ms of fault status, as is", pattern=_PRINTABLE_ASCII)
    )
    refuse_seconds: float = field(
        default=0.0,
        metadata=_about("how long fault refuse keeps the port closed; must be above 0 then", low=0, high=86_400),
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            problem = _problem(spec, getattr(self, spec.name))
            if problem is not None:
                raise BadBehaviour(spec.name, problem)
        if self.fault == "refuse" and self.refuse_seconds == 0:
            raise BadBehaviour(
                "refuse_seconds", "must be above 0 with fault refuse: a closed port cannot be reopened over HTTP"
            )

    @property
    def paced(self) -> bool:
        """Whether answers take time."""
        return self.ttft_seconds > 0 or self.tpot_seconds > 0

    def to_json(self) -> dict[str, object]:
        """All fields but the key, as `changed` takes them."""
        values = asdict(self)
        del values["api_key"]
        return values

    def changed(self, changes: Mapping[str, object]) -> Behaviour:
        """A copy with decoded JSON values put in. Raises BadBehaviour for an unknown field or a wrong value."""
        known = {spec.name: spec for spec in fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise BadBehaviour(name, "there is no such field")
            values[name] = tuple(value) if isinstance(value, list) else value
        return replace(self, **values)


def _problem(spec: Field[Any], value: object) -> str | None:
    """What is wrong with `value` in this field, in words; None when nothing is."""
    kind: type[Any] = type(spec.default)
    if not _fits(kind, value):
        return f"must be {_EXPECTED[kind]}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = spec.metadata["low"], spec.metadata["high"]
        return None if low <= value <= high else f"must be between {low} and {high}"
    if isinstance(value, str):
        return _text_problem(spec, value)
    if isinstance(value, tuple):
        return next((problem for item in value if (problem := _text_problem(spec, item))), None)
    return None


def _fits(kind: type, value: object) -> bool:
    """Whether `value` is of the field's type; a whole number passes for a float, a truth value for neither."""
    if kind is float:
        return type(value) is int or (type(value) is float and math.isfinite(value))
    if kind is tuple:
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    return type(value) is kind


def _text_problem(spec: Field[Any], text: str) -> str | None:
    choices, pattern = spec.metadata["choices"], spec.metadata["pattern"]
    if choices:
        return None if text in choices else "must be one of " + ", ".join(repr(choice) for choice in choices)
    if pattern is not None and not pattern.fullmatch(text):
        # Without the value: it may be the key.
        return f"must match {pattern.pattern}"
    return None if text.isprintable() else "must be printable text"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line of a fake backend."""

    host: str
    port: int
    behaviour: Behaviour


def parse_arguments(argv: Sequence[str] | None) -> Arguments:
    """The command line, checked. A wrong value exits with status 2 and a message that names the argument."""
    parser = argparse.ArgumentParser(
        prog="llm-fake-backend",
        description="An OpenAI-compatible backend that only pretends, for tests, demos and benchmarks.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_port, default=9001, help="port to listen on, 0 for any free one (default: %(default)s)"
    )
    for spec in fields(Behaviour):
        _add_argument(parser, spec)
    values = vars(parser.parse_args(argv))
    host, port = values.pop("host"), values.pop("port")
    try:
        return Arguments(host, port, Behaviour().changed(values))
    except BadBehaviour as error:
        parser.error(f"argument {_flag(error.field)}: {error.problem}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_argument(parser: argparse.ArgumentParser, spec: Field[Any]) -> None:
    flags = [_flag(spec.name)]
    if spec.name in ("ttft_seconds", "tpot_seconds"):
        flags.append(flags[0].removesuffix("-seconds"))
    default: Any = spec.default
    kind = type(default)
    # Without a default of its own, the parser leaves out what was not given.
    if kind is bool:
        parser.add_argument(
            *flags,
            default=argparse.SUPPRESS,
            action=argparse.BooleanOptionalAction,
            help=_help(spec, "yes" if default else "no"),
        )
        return
    shown = " ".join(default) if kind is tuple else default
    parser.add_argument(
        *flags,
        default=argparse.SUPPRESS,
        type=_converter(spec),
        nargs="*" if kind is tuple else None,
        metavar="TEXT" if kind in (str, tuple) else "N",
        help=_help(spec, "lf" if spec.name == "line_ending" else shown),
    )


def _help(spec: Field[Any], default: object) -> str:
    choices = tuple(_LINE_ENDINGS) if spec.name == "line_ending" else spec.metadata["choices"]
    text = spec.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    return f"{text} (default: {default})" if default != "" else str(text)


def _converter(spec: Field[Any]) -> Callable[[str], object]:
    """What turns one word of the command line into a value of this field."""
    kind: type[Any] = type(spec.default)

    def convert(text: str) -> object:
        value: object = text
        if kind in (int, float):
            try:
                value = kind(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"must be {_EXPECTED[kind]}, not {text!r}") from None
        elif spec.name == "line_ending":
            if text not in _LINE_ENDINGS:
                raise argparse.ArgumentTypeError(f"must be {' or '.join(_LINE_ENDINGS)}, not {text!r}")
            value = _LINE_ENDINGS[text]
        problem = _problem(spec, (value,) if kind is tuple else value)
        if problem is not None:
            raise argparse.ArgumentTypeError(problem)
        return value

    return convert


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535, not {text!r}")
    return int(text)
