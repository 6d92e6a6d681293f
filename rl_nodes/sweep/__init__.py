# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
