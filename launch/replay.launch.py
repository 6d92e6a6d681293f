# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Repeat a recorded episode; arguments: ros2 launch -s rl_nodes replay.launch.py."""

from rl_nodes.launch_description import make


def generate_launch_description():
    """Return the graph as launch actions."""
    return make('replay')
