# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: percentiles, and one way to say the result to people and programs."""

from collections.abc import Mapping, Sequence
import json
import math
from typing import NamedTuple

import numpy as np


class Metric(NamedTuple):
    """
    One figure.

    :param value: what was measured; None where this machine cannot show it.
    :param aim: what to reach, as in ``<= 1.3``.
    :param peer: what it was measured against, in words; or why there is no value.
    """

    value: float | None
    aim: str
    peer: str

    @property
    def reached(self) -> bool | None:
        """Return whether the aim is reached; None where there is no value."""
        if self.value is None:
            return None
        relation, _, bound = self.aim.partition(' ')
        limit = float(bound.split()[0])
        return {'<=': self.value <= limit, '>=': self.value >= limit,
                '<': self.value < limit, '>': self.value > limit,
                '=': self.value == limit}[relation]


def percentile(samples: Sequence[float] | np.ndarray, q: float) -> float:
    """
    Return the ``q``-th percentile, a value that occurs in ``samples``.

    :param q: 0 to 100.
    """
    return float(np.percentile(np.asarray(samples), q, method='higher'))


def latency_row(name: str, samples_ns: Sequence[float] | np.ndarray) -> list[str]:
    """Return (name, p50, p99, p99.9, maximum, count) of durations given in ns, shown in µs."""
    return [name, *(f'{percentile(samples_ns, q) / 1e3:.2f}' for q in (50, 99, 99.9, 100)),
            str(len(samples_ns))]


LATENCY_HEAD = ['', 'p50 µs', 'p99 µs', 'p99.9 µs', 'max µs', 'N']


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table: first column left, the others right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return '\n'.join(
        '  '.join(cell.ljust(w) if i == 0 else cell.rjust(w)
                  for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in [head, *rows])


def publish(metrics: Mapping[str, Metric]) -> None:
    """Print a table of ``metrics`` and, as the last line, one JSON object."""
    words = {True: 'reached', False: 'MISSED', None: 'not shown'}
    rows = [[name, '-' if m.value is None else f'{m.value:.4g}', m.aim, words[m.reached], m.peer]
            for name, m in metrics.items()]
    print(table(['metric', 'value', 'aim', '', 'measured against'], rows))
    print(json.dumps({name: {'value': None if m.value is None or not math.isfinite(m.value)
                             else round(m.value, 6), 'aim': m.aim, 'peer': m.peer}
                      for name, m in metrics.items()}), flush=True)
