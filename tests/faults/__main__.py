"""Prints the matrix of faults as the table of docs/reliability.md: `python -m tests.faults`."""

from __future__ import annotations

from tests.faults.catalogue import FAULTS, End, Fault


def words(end: End, *, streamed: bool) -> str:
    """What the client gets, and how it counts."""
    if end.broken:
        told = "its beginning, then an error event" if streamed else "its beginning, then the connection is cut"
    elif end.status == 200:
        told = "as it is"
    else:
        own = f"{end.status} `{end.code}`" if end.code else f"its own {end.status}"
        told = f"another endpoint's; else {own}" if end.elsewhere else own
    return f"{told} · {end.outcome}"


def table() -> str:
    """One row for each pair of ends, with all faults that end so."""
    rows: dict[tuple[str, str], list[str]] = {}
    for fault in FAULTS:
        key = words(fault.whole, streamed=False), words(fault.stream, streamed=True)
        rows.setdefault(key, []).append(shown(fault))
    head = [
        "| what goes wrong | whole answer: the client gets · outcome | stream: the client gets · outcome |",
        "|---|---|---|",
    ]
    return "\n".join(head + [f"| {'; '.join(names)} | {whole} | {stream} |" for (whole, stream), names in rows.items()])


def shown(fault: Fault) -> str:
    """Its name, fit for a table."""
    return fault.name.replace("|", "\\|").replace("[", "\\[")


if __name__ == "__main__":
    print(f"{len(FAULTS)} faults, {4 * len(FAULTS)} cells\n\n{table()}")
