# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The linter of ROS has nothing to say, where it is installed."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_flake8_is_clean():
    flake8 = pytest.importorskip('ament_flake8.main', reason='comes with a ROS installation')
    folders = [str(ROOT / name) for name in ('rl_nodes', 'launch', 'setup.py')]
    status, errors = flake8.main_with_errors(argv=['--linelength', '99', *folders])
    assert status == 0, '\n'.join(errors)
