"""Draws sampled stacks as a flame graph: one box a function, as wide as its part of the time, its callees below it.

The colour tells the room of the code. The picture is a plain SVG without scripts: a browser shows a box's whole name
and its part when the pointer rests on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.sax.saxutils import escape

_WIDTH = 1200
_ROW = 19
_LETTER = 6.3
_MARGIN = 16
_TOP = 74
_LEAST_PART = 0.004
# The outermost function of the thread that serves; uvloop itself is no Python and shows as this one's own time.
_LOOP = "Runner.run "


class Room(NamedTuple):
    """One part of the code: what it is called here, the paths that belong to it, its colour."""

    name: str
    paths: tuple[str, ...]
    colour: str


_CLIENT_SIDE = ("balancer/proxy/transport", "balancer/proxy/bounds", "balancer/proxy/reception", "uvicorn/")
_ROOMS = (
    Room("HTTP toward clients", _CLIENT_SIDE, "#8fb4f0"),
    Room("one request's way", ("balancer/dispatch/", "balancer/proxy/"), "#f2b872"),
    Room("choosing", ("balancer/core/",), "#e58f8f"),
    Room("formats", ("balancer/wire/", "balancer/auth"), "#b9a3ec"),
    Room("HTTP toward endpoints", ("balancer/upstream/",), "#7fcab0"),
    Room("counting", ("balancer/traffic", "balancer/series", "balancer/usage_feed", "balancer/store/"), "#e9d36c"),
)
_OTHER = Room("event loop and Python's own", (), "#cdd3dc")


@dataclass(slots=True)
class Node:
    """A function in its place in the stacks, and how many samples met it there."""

    name: str
    path: str = ""
    count: int = 0
    callees: dict[str, Node] = field(default_factory=dict)


def tree(stacks: Iterable[str]) -> Node:
    """All stacks of the event loop's thread as one tree. What lies outside of the loop is left out."""
    root = Node("event loop")
    for line in stacks:
        stack, _, times = line.rpartition(" ")
        names = stack.split(";")
        if not any(name.startswith(_LOOP) for name in names):
            continue
        inner = next(place for place, name in enumerate(names) if name.startswith(_LOOP)) + 1
        _add(root, names[inner:], int(times))
    return root


def _add(root: Node, names: list[str], times: int) -> None:
    root.count += times
    node = root
    for name in names:
        if name not in node.callees:
            function, _, path = name.partition(" (")
            node.callees[name] = Node(function, path.rstrip(")").rpartition(":")[0])
        node = node.callees[name]
        node.count += times


def _room(node: Node) -> Room:
    return next((room for room in _ROOMS if any(path in node.path for path in room.paths)), _OTHER)


def _depth(node: Node, least: float) -> int:
    return 1 + max((_depth(each, least) for each in node.callees.values() if each.count >= least), default=0)


def own_parts(root: Node) -> dict[str, float]:
    """The part of all samples (0..1) that each room had itself, without what it called."""
    parts = dict.fromkeys([room.name for room in (*_ROOMS, _OTHER)], 0.0)

    def visit(node: Node) -> None:
        own = node.count - sum(each.count for each in node.callees.values())
        parts[_room(node).name] += own / (root.count or 1)
        for each in node.callees.values():
            visit(each)

    visit(root)
    return parts


def picture(root: Node, title: str) -> str:
    """The SVG."""
    least = root.count * _LEAST_PART
    height = _TOP + _depth(root, least) * _ROW + _MARGIN
    font = 'font-family="ui-monospace,Menlo,Consolas,monospace"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {font} font-size="10.5">',
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<text x="{_MARGIN}" y="28" font-size="15" fill="#1a2130">{escape(title)}</text>',
        *_legend(root),
        *_boxes(root, _MARGIN, 0, (_WIDTH - 2 * _MARGIN) / (root.count or 1), least, root.count or 1),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _legend(root: Node) -> list[str]:
    lines, x = [], float(_MARGIN)
    parts = own_parts(root)
    for room in (*_ROOMS, _OTHER):
        words = f"{room.name} {100 * parts[room.name]:.0f} %"
        lines.append(f'<rect x="{x:.0f}" y="42" width="12" height="12" rx="3" fill="{room.colour}"/>')
        lines.append(f'<text x="{x + 17:.0f}" y="52" fill="#566072">{escape(words)}</text>')
        x += 17 + len(words) * _LETTER + 16
    return lines


def _boxes(node: Node, x: float, depth: int, scale: float, least: float, total: int) -> list[str]:
    width, y = node.count * scale, _TOP + depth * _ROW
    part = f"{100 * node.count / total:.1f} %"
    where = f" ({node.path})" if node.path else ""
    box = f'x="{x:.1f}" y="{y}" width="{max(width - 1, 0.5):.1f}" height="{_ROW - 1}" rx="2"'
    lines = [f'<g><title>{escape(node.name + where)}: {part}</title><rect {box} fill="{_room(node).colour}"/>']
    letters = int((width - 8) / _LETTER)
    if letters >= 4:
        label = f"{node.name} {part}"
        label = label if len(label) <= letters else node.name[:letters]
        lines.append(f'<text x="{x + 4:.1f}" y="{y + 13}" fill="#1a2130">{escape(label)}</text>')
    lines.append("</g>")
    for each in sorted(node.callees.values(), key=lambda each: -each.count):
        if each.count >= least:
            lines += _boxes(each, x, depth + 1, scale, least, total)
            x += each.count * scale
    return lines
