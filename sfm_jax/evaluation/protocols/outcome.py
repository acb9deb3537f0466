"""What a protocol found: its table with the peers' published rows beneath, and what lies behind every number."""

import dataclasses
from typing import NamedTuple

from matplotlib.figure import Figure


class Estimate(NamedTuple):
    """A value with the ends of its 95 % interval, None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


class Row(NamedTuple):
    """name; values by column, columns may be missing; source: "" of what was measured here, else where it was
    published."""

    name: str
    values: dict[str, Estimate]
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """protocol: short name; title: what is measured, how and in which unit, in one line; columns: of the table, in
    order; rows: measured here; samples: a dict for each sample, all with the same keys; published: the peers' rows;
    notes: what a reader must know of this run; figures by name; digits: after the point."""

    protocol: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    samples: tuple[dict, ...]
    published: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    digits: int = 2
