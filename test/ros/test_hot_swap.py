# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Policies exchanged while the robot moves: no state unanswered, no step too large, no pause."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from rclpy.node import Node
from rl_nodes.tasks import load_task

from benchmarks.hot_swap import deployment


@pytest.fixture
def node() -> Iterator[Node]:
    rclpy.init()
    found = Node('hot_swap')
    try:
        yield found
    finally:
        found.destroy_node()
        rclpy.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(('path', 'rate_hz'), [('cpp', 200), ('python', 50), ('python', 200)])
def test_the_robot_moves_on(path: str, rate_hz: int, node: Node, tmp_path: Path) -> None:
    """Ten swaps a second: the monitor's watchdog would stop the robot after a pause of 0.1 s."""
    found = deployment(node, path, rate_hz, 2, tmp_path / 'run')
    assert found.versions > 4  # a loaded machine verifies fewer
    assert found.unanswered == 0
    assert found.step < 1.001
    longest_s = max(found.gaps[1]) / 1e9
    assert longest_s < load_task('arm', 'reach').robot.config.safety.watchdog_s
