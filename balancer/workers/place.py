"""Where a worker stands among the others, and what it was handed down: descriptors, by number."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass

LINKS_NAME, PAGES_NAME = "links", "pages"


@dataclass(frozen=True, slots=True)
class Place:
    """Worker `number` of `count`; number 0 is the lead.

    `sockets` take clients, `admin_sockets` those of the admin port. `links` and `pages` are the Unix sockets on which
    the lead hears followers, and what they pass on; both lie in `directory`. `control` tells to drain. `table`: the
    numbers of all.
    """

    number: int
    count: int
    sockets: tuple[int, ...]
    admin_sockets: tuple[int, ...]
    links: int
    pages: int
    control: int
    table: int
    directory: str

    @classmethod
    def read(cls, text: str) -> Place:
        """The place that the supervisor wrote on the command line. Raises ValueError."""
        given = json.loads(text)
        return cls(**{**given, "sockets": tuple(given["sockets"]), "admin_sockets": tuple(given["admin_sockets"])})

    @property
    def is_lead(self) -> bool:
        """Whether this worker is the one that knows the whole."""
        return self.number == 0

    @property
    def links_path(self) -> str:
        """Where followers find the lead."""
        return f"{self.directory}/{LINKS_NAME}"

    @property
    def pages_path(self) -> str:
        """Where followers pass requests on."""
        return f"{self.directory}/{PAGES_NAME}"


def opened(descriptors: tuple[int, ...]) -> list[socket.socket]:
    """The sockets of these descriptors."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
