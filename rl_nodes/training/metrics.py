# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Metrics of a run: TensorBoard event files, and the same numbers as JSON lines.

``metrics.jsonl`` has one object per row: ``kind`` (``train`` or ``evaluation``), ``step``
(control steps), ``wall_s`` (training time so far [s]), and the values.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from rl_nodes.runs.record import read_rows
from torch.utils.tensorboard import SummaryWriter

_log = logging.getLogger(__name__)


class MetricSink:
    """Writes rows of metrics; a full disk is reported once and never stops training."""

    def __init__(self, folder: Path, resume_step: int | None = None,
                 evaluated_step: int | None = None) -> None:
        """
        Open the files.

        :param folder: the run directory.
        :param resume_step: control steps of the checkpoint that training resumes from; rows after
            it belong to a future that did not happen and are dropped. None for a new run.
        :param evaluated_step: control steps at the last evaluation before that checkpoint; the one
            that closes a run comes after the checkpoint of the same step, and comes again.
            None where that is the checkpoint's.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / 'metrics.jsonl'
        rows = [] if resume_step is None else [
            row for row in read_rows(self.path) if row['step'] <= (
                evaluated_step if evaluated_step is not None and row['kind'] == 'evaluation'
                else resume_step)]
        temporary = folder / f'.{self.path.name}.tmp'  # or a kill just now would lose all rows
        temporary.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
        temporary.replace(self.path)
        self._stream = self.path.open('a', encoding='utf-8')
        self._writer = SummaryWriter(
            str(folder / 'tensorboard'), purge_step=resume_step, flush_secs=10)
        self._failed = False

    def write(self, kind: str, step: int, wall_s: float, values: dict[str, float]) -> None:
        """
        Append one row.

        :param kind: ``train`` or ``evaluation``; prefix of the names in TensorBoard.
        :param step: control steps so far.
        :param wall_s: training time so far [s].
        :param values: name -> value; those that are not finite are written as null.
        """
        row: dict[str, Any] = {'kind': kind, 'step': step, 'wall_s': round(wall_s, 3)}
        row |= {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            self._stream.write(json.dumps(row) + '\n')
            self._stream.flush()
            for name, value in values.items():
                self._writer.add_scalar(f'{kind}/{name}', value, step)
        except OSError as error:
            if not self._failed:
                _log.error('%s: metrics are not written any more: %s', self.path, error)
            self._failed = True

    def write_histograms(self, step: int, values: dict[str, np.ndarray]) -> None:
        """
        Let TensorBoard show how values are distributed, and how that changes.

        :param step: control steps so far.
        :param values: name -> values of any shape; empty ones and those not finite are left out.
        """
        try:
            for name, array in values.items():
                if array.size and np.isfinite(array).all():
                    self._writer.add_histogram(name, array, step)
        except OSError as error:
            if not self._failed:
                _log.error('%s: metrics are not written any more: %s', self.path, error)
            self._failed = True

    def close(self) -> None:
        """Flush and close the files."""
        try:
            self._stream.close()
            self._writer.close()
        except OSError as error:
            _log.error('%s: the last metrics are lost: %s', self.path, error)
