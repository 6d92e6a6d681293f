# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Robot learning as ROS 2 nodes: train, record, deploy, and stay safe."""

__version__ = '0.1.0'
