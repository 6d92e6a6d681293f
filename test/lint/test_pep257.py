# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The docstring check of ROS has nothing to say, where it is installed."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_pep257_is_clean():
    pep257 = pytest.importorskip('ament_pep257.main', reason='comes with a ROS installation')
    assert pep257.main(argv=[str(ROOT / 'rl_nodes'), str(ROOT / 'launch')]) == 0
