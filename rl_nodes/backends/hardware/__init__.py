# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Backends of real robots; each imports its vendor library only when it is built."""
