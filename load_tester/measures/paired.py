"""What one way costs over another: the same requests both ways, compared pair by pair. Pure.

Percentiles of two runs are never subtracted. Each pair gives one difference; of these the mean with Student's 95 %
confidence interval, and the median with its distribution-free interval by ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

from load_tester.measures.records import Record

FEWEST_PAIRS = 6
_Z = NormalDist().inv_cdf(0.975)
METRICS = {
    "ttft": ("ms", 1e6, "ttft_ns"),
    "e2e": ("ms", 1e6, "e2e_ns"),
    "tpot": ("ms", 1e6, "tpot_ns"),
    "tokens_per_second": ("tok/s", 1.0, "tokens_per_second"),
}


def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t: exact for 1 and 2 degrees of freedom, else by Cornish and Fisher."""
    if freedom == 1:
        return 12.706204736
    if freedom == 2:
        return 4.302652730
    z, v = _Z, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )


def difference(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Second minus first: mean and median, each with a 95 % interval; null below 6 pairs.

    `clear`: whether the interval of the mean leaves zero out.
    """
    n = len(pairs)
    base: dict[str, Any] = {"n": n, "mean": None, "mean_low": None, "mean_high": None}
    base |= {"median": None, "median_low": None, "median_high": None, "baseline_mean": None, "clear": None}
    if n == 0:
        return base
    differences = sorted(b - a for a, b in pairs)
    base["mean"] = fmean(differences)
    base["median"] = differences[math.ceil(n / 2) - 1]
    base["baseline_mean"] = fmean(a for a, _ in pairs)
    if n < FEWEST_PAIRS:
        return base
    margin = student_quantile(n - 1) * stdev(differences) / math.sqrt(n)
    base["mean_low"], base["mean_high"] = base["mean"] - margin, base["mean"] + margin
    low = max(1, math.floor(n / 2 - _Z * math.sqrt(n) / 2))
    base["median_low"], base["median_high"] = differences[low - 1], differences[n - low]
    base["clear"] = base["mean_low"] > 0 or base["mean_high"] < 0
    return base


def compare_pairs(first: Sequence[Record], second: Sequence[Record]) -> dict[str, Any]:
    """The differences of every figure over the requests that both answered; `unpaired` counts the others."""
    by_number: Mapping[int, Record] = {record.number: record for record in second if record.ok}
    pairs = [(a, by_number[a.number]) for a in first if a.ok and a.number in by_number]
    result: dict[str, Any] = {"pairs": len(pairs), "unpaired": len(first) + len(second) - 2 * len(pairs)}
    for name, (unit, divisor, attribute) in METRICS.items():
        values = [
            (x / divisor, y / divisor)
            for a, b in pairs
            if (x := getattr(a, attribute)) is not None and (y := getattr(b, attribute)) is not None
        ]
        result[name] = {"unit": unit, **difference(values)}
    return result
