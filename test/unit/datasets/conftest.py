# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes, made once."""

from pathlib import Path
import sys

import pytest
from rl_nodes.tasks import load_task

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope='session')
def task():
    return load_task('arm', 'reach')


@pytest.fixture(scope='session')
def _recorded(tmp_path_factory, task):
    from recordings import record
    folder = tmp_path_factory.mktemp('recorded')
    record(folder, task, changed={2: 'clamp/velocity'})
    return folder


@pytest.fixture
def episodes(_recorded, tmp_path) -> Path:
    """Return a folder with three sound episodes, to be damaged at will."""
    folder = tmp_path / 'episodes'
    folder.mkdir()
    for path in _recorded.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
