"""What a method looks like in every picture: one colour and one mark, a variant a shade of its method's colour.

A look follows from the name alone. So it is the same in every picture of every folder, and stays when methods are added.
"""

from __future__ import annotations

import colorsys
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

COLOURS = ("#56B4E9", "#C4314B", "#5B6770", "#C9A400", "#9467BD", "#17A2A2", "#8B4513", "#6B8E23", "#1F3A5F", "#E58FA0")
"""Of what is no method: none is a method's, so that no picture's series is taken for one."""
MARKERS = ("o", "D", "^", "v", "P", "X", "p", "h", "d", "<", ">")
"""With the colours, so that a picture works in grey as well."""
GREY = "#8A8A8A"
"""Of controls, which step back behind the methods."""
KNOWN = {
    "target": ("#444444", "s"),
    "retrain": ("#000000", "*"),
    "oracle": ("#000000", "*"),
    "msa": ("#0072B2", "o"),
    "task-arithmetic": ("#009E73", "D"),
    "npo": ("#D55E00", "P"),
    "simnpo": ("#CC79A7", "X"),
    "ga": ("#E69F00", "^"),
    "graddiff": ("#882255", "v"),
    "wga": ("#999933", "p"),
    "satimp": ("#661100", "h"),
    "tnpo": ("#AA4499", "<"),
    "undial": ("#332288", "D"),
    "ce-u": ("#44AA99", "^"),
    "pdu": ("#117733", "v"),
    "rmu": ("#6A3D9A", "o"),
    "transfer": ("#8C6D31", "P"),
    "idk-nll": ("#E7298A", "p"),
    "idk-dpo": ("#E7298A", "h"),
    "altpo": ("#A6761D", ">"),
    "flat": ("#5E4FA2", "d"),
    "before": (GREY, "v"),
    "rewind": (GREY, ">"),
    "interpolate": (GREY, "<"),
    "random": (GREY, "X"),
    "max-update": (GREY, "P"),
    "finetune": (GREY, "d"),
}
"""Colour and mark of the methods that are compared most; any other one's follow from a hash of its name."""
SHADES = {"": 0.0, "per-token": 0.0, "50": 0.0, "25": 0.2, "10": 0.4}
"""How far a variant's colour lies toward white; a variant that isn't here gets one of `OTHER_SHADES` by its name."""
OTHER_SHADES = (0.3, 0.4, 0.5, 0.6)
NAME = re.compile(r"(?:rewound-)?([^@+]*)@?(.*)", re.DOTALL)
"""A row's method and what follows: its variant, and further steps."""


@dataclass(frozen=True)
class Look:
    """Colour and mark of a row."""

    colour: str
    marker: str

    @property
    def ink(self) -> tuple[float, ...]:
        """The colour of its name, which needs more contrast than a mark."""
        return tuple(0.7 * part for part in _rgb(self.colour))


def method_in(text: str) -> str:
    """The method that a series such as ``msa, forget rows missing`` is of; empty where it names none of `KNOWN`."""
    name = text.partition(",")[0]
    return name if is_known(name) else ""


def is_known(name: str) -> bool:
    """Whether this is the name of a method of `KNOWN`, or of a variant of one."""
    found = NAME.fullmatch(name)
    return found is not None and found[1] in KNOWN


def look_of(method: str, setting: int = 0) -> Look:
    """The look of a method by the name of its row, such as ``npo@small-retain``; further settings of it are lighter still."""
    found = NAME.fullmatch(method)
    assert found is not None, "the pattern takes any text"
    name, variant = found.groups()
    colour, marker = KNOWN.get(name) or _made_up(name)
    variant = variant.removesuffix("+per-token")
    shade = SHADES.get(variant)
    if shade is None:
        shade = OTHER_SHADES[_digest(variant)[0] % len(OTHER_SHADES)]
    return Look(_lighter(colour, (shade + 0.3 * setting) % 0.9), marker)


def looks_of(rows: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """The look of every row of a picture, given by its name and method, by name."""
    settings: dict[str, list[str]] = defaultdict(list)
    for name, method in sorted(rows):
        settings[method].append(name)
    return {name: look_of(method, place) for method, names in settings.items() for place, name in enumerate(names)}


def _made_up(name: str) -> tuple[str, str]:
    """A colour of middling lightness, and a mark."""
    digest = _digest(name)
    hue, lightness = int.from_bytes(digest[:2]) / 65536, 0.35 + 0.15 * digest[2] / 255
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.75)
    return _hex(red, green, blue), MARKERS[digest[3] % len(MARKERS)]


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="replace")).digest()


def _lighter(colour: str, share: float) -> str:
    """The colour, that share of the way to white."""
    return _hex(*(part + (1 - part) * share for part in _rgb(colour)))


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


def _hex(*parts: float) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in parts)
