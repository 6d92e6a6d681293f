# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What people do with policy files: bring them in, look at them, compare them."""
