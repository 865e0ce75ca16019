"""What each figure means and how it is computed, in the words that stand beside it. Pure data."""

from __future__ import annotations

from typing import NamedTuple


class Definition(NamedTuple):
    """One figure: its key in results, the name people know it by, unit, formula, and other tools' names for it."""

    key: str
    name: str
    unit: str
    formula: str
    also: str = ""


DEFINITIONS: tuple[Definition, ...] = (
    Definition("ttft", "TTFT", "ms", "t_1 - t_send: first chunk with content, reasoning or a tool call"),
    Definition("ttft_star", "TTFT*", "ms", "t_1 - t_sched: counted from the planned time (open loop)"),
    Definition("ttfo", "TTFO", "ms", "t_o - t_send: first chunk that is not reasoning"),
    Definition("e2e", "E2E", "ms", "t_m - t_send: last chunk"),
    Definition("e2e_star", "E2E*", "ms", "t_m - t_sched: counted from the planned time (open loop)"),
    Definition(
        "tpot", "TPOT", "ms", "(t_m - t_1) / (n_out - 1), for n_out >= 2", "vLLM: TPOT; AIPerf: inter token latency"
    ),
    Definition("icl", "ICL", "ms", "all gaps t_(k+1) - t_k of all requests, pooled", "vLLM: ITL"),
    Definition("queue", "Client queue time", "ms", "t_send - t_sched"),
    Definition("output_tokens_per_second", "Output tok/s", "tok/s", "sum of n_out completed in the window / window"),
    Definition("requests_per_second", "Requests/s", "1/s", "requests answered in the window / window"),
    Definition("goodput", "Goodput", "1/s", "answered requests that meet every SLO / window"),
    Definition("good_percent", "Good", "%", "answered requests that meet every SLO / (answered + failed)"),
    Definition("error_percent", "Errors", "%", "failed / (answered + failed)"),
    Definition("in_flight_mean", "In flight, mean", "", "time-weighted mean over the window"),
    Definition("in_flight_peak", "In flight, peak", "", "exact maximum in the window"),
    Definition("request_tokens_per_second", "Tok/s per request", "tok/s", "n_out / E2E of each request"),
    Definition("send_interval", "Send interval", "ms", "t_send of a request - t_send of the one before"),
    Definition(
        "percentiles",
        "Percentiles",
        "",
        "nearest rank: sample number ceil(n x p / 100) in ascending order; raw to 200,000 samples, then a histogram "
        "within 0.1 %; p99.9 from 10,000 samples; never averaged",
    ),
    Definition(
        "window",
        "Window",
        "s",
        "from the end of warm-up and ramp to the end of sending, before the drain; with a limit of requests, to the "
        "last answer",
    ),
    Definition("knee", "Knee", "", "the step with the greatest throughput / mean E2E"),
)


def definitions() -> list[dict[str, str]]:
    """As JSON."""
    return [each._asdict() for each in DEFINITIONS]
