# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Run the command line by ``python -m rl_nodes``."""

import sys

from rl_nodes.cli import main

if __name__ == '__main__':
    sys.exit(main())
