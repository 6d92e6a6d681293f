# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The policy server with a thread that keeps the interpreter to itself, as a long call into C does.

``GREEDY_POLICY``: a file that says for how long [s]; it is removed before that begins.
"""

import ctypes
import os
from pathlib import Path
import threading
import time

from rl_nodes.nodes.policy_server import main

SWITCH = Path(os.environ['GREEDY_POLICY'])
LIBRARY = ctypes.PyDLL(None)  # whose calls keep the interpreter's lock


def greedy() -> None:
    while True:
        time.sleep(0.01)
        if SWITCH.exists() and (text := SWITCH.read_text()):
            SWITCH.unlink()
            LIBRARY.usleep(round(float(text) * 1e6))


threading.Thread(target=greedy, daemon=True).start()
main()
