# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""From a URDF to a robot of ours: what is wrong with it, a configuration to edit, a check."""
