# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""All faults that are injected into running deployments."""

import faults
import machine
import middleware
import people

FAULTS = (*faults.FAULTS, *machine.FAULTS, *middleware.FAULTS, *people.FAULTS)
