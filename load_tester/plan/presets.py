"""Cards to begin with, for the questions that are asked most. Pure data."""

from __future__ import annotations

from typing import Any

PRESETS: tuple[dict[str, Any], ...] = (
    {
        "id": "latency",
        "name": "Latency",
        "question": "How fast is one request when nothing else goes on?",
        "cards": [{"load": {"kind": "closed", "concurrency": 1}, "stop": {"requests": 50}, "max_tokens": 60}],
    },
    {
        "id": "throughput",
        "name": "Throughput",
        "question": "How many tokens per second come out under steady load?",
        "cards": [
            {
                "load": {"kind": "closed", "concurrency": 32},
                "stop": {"seconds": 65},
                "warmup_seconds": 5,
                "max_tokens": 256,
            }
        ],
    },
    {
        "id": "parallel_limit",
        "name": "Parallel limit",
        "question": "How many requests at once are worth it? Finds the knee and proposes max_concurrent.",
        "cards": [
            {
                "load": {"kind": "sweep", "of": "concurrency", "most": 256, "step_seconds": 15},
                "max_tokens": 128,
                "slo": {"ttft_p95": "2s"},
            }
        ],
    },
    {
        "id": "rpm_limit",
        "name": "Rate limit",
        "question": "From which rate on are requests refused?",
        "cards": [
            {
                "load": {
                    "kind": "stages",
                    "of": "rate",
                    "stages": [{"seconds": 15, "end": rate} for rate in (0.5, 1, 2, 5, 10, 20)],
                },
                "stop": {"errors": 20},
                "max_tokens": 1,
                "stream": False,
            }
        ],
    },
    {
        "id": "key_compare",
        "name": "Compare keys",
        "question": "Are two keys treated alike? The same load with each at the same time.",
        "cards": [
            {"name": "Key A", "load": {"kind": "constant", "rate": 2}, "stop": {"seconds": 60}},
            {"name": "Key B", "load": {"kind": "constant", "rate": 2}, "stop": {"seconds": 60}},
        ],
    },
    {
        "id": "balancer_cost",
        "name": "Cost of the balancer",
        "question": "What does the way through the balancer cost? The same requests directly and through it.",
        "paired": True,
        "cards": [
            {"name": "Direct", "load": {"kind": "constant", "rate": 5}, "stop": {"seconds": 60}},
            {"name": "Through the balancer", "load": {"kind": "constant", "rate": 5}, "stop": {"seconds": 60}},
        ],
    },
)
