# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations that runs of ``results.yaml`` learn from, made by commands of this package."""

from dataclasses import replace
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Annotated

import msgspec
import numpy as np
from rl_nodes.tasks import load_task
from rl_nodes.training import demonstrations


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Episodes that a script shows, as ``rl_nodes launch record`` keeps them.

    :param robot: name in ``config/robots``.
    :param task: name in ``config/tasks``.
    :param episodes: how many.
    """

    robot: str
    task: str
    episodes: Annotated[int, msgspec.Meta(ge=1)]

    def made(self, folder: Path) -> Path:
        """Return the file of their transitions, of which those of success are paid 1."""
        file, raw = folder / 'paid.npz', folder / 'shown.npz'
        if not file.exists():
            shutil.rmtree(folder, ignore_errors=True)
            rl_nodes('launch', 'record', f'robot:={self.robot}', f'task:={self.task}',
                     f'episodes:={self.episodes}', f'run_dir:={folder}')
            rl_nodes('dataset', 'export', str(folder / 'episodes'), 'format:=npz',
                     f'output:={raw}')
            contract = load_task(self.robot, self.task).contract
            shown = demonstrations.load(raw, contract)
            demonstrations.save(file, replace(shown, reward=shown.success.astype(np.float32)),
                                contract)
        return file


def rl_nodes(*words: str) -> None:
    """Run a command of this package."""
    subprocess.run([sys.executable, '-m', 'rl_nodes', *words], check=True)
