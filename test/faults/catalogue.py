# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""All faults that are injected into running deployments."""

import faults
import intruders
import machine
import measurements
import middleware
import people

FAULTS = (*faults.FAULTS, *intruders.FAULTS, *measurements.FAULTS, *machine.FAULTS,
          *middleware.FAULTS, *people.FAULTS)
