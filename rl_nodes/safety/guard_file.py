# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The file of a guard: what ``rl_nodes safety calibrate`` writes and the safety monitor reads.

It belongs to one contract.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal

from msgspec import json, Meta, MsgspecError, Struct, structs, UNSET, UnsetType
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError
from rl_nodes.safety.distribution import Distribution

FORMAT_VERSION = 1
MAX_GUARD_BYTES = 32 * 1024**2

Share = Annotated[float, Meta(gt=0, lt=1)]


class Calibrated(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A threshold and where it comes from, see ``conformal.py``.

    :param threshold: greatest score without an alarm.
    :param false_alarms: rate per episode that it was made for.
    :param episodes: that it was made of.
    """

    threshold: float
    false_alarms: Share
    episodes: Annotated[int, Meta(ge=1)]


class Risk(Struct, frozen=True, forbid_unknown_fields=True):
    """
    The network that says how risky an action is.

    :param file: of the network, in the folder of the guard.
    :param sha256: of that file, 64 hexadecimal digits.
    :param horizon_s: how far ahead it looks.
    :param calibration: of its answers.
    """

    file: Annotated[str, Meta(pattern=r'^[^/\\]+\.onnx$')]
    sha256: Annotated[str, Meta(pattern='^[0-9a-f]{64}$')]
    horizon_s: Annotated[float, Meta(gt=0)]
    calibration: Calibrated


class GuardFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What ``rl_nodes safety calibrate`` has found.

    :param format_version: layout of this record.
    :param robot: name of the robot.
    :param task: name of the task.
    :param contract: fingerprint of the contract, 64 hexadecimal digits.
    :param verdict: of an alarm.
    :param distribution: of the observations.
    :param calibration: of their scores.
    :param risk: left out where no network was trained.
    :param fitted_episodes: that the distribution was made of, none of which calibrated it.
    :param policies: ``<name>@<version>`` of whoever acted in the episodes.
    :param data: name -> SHA-256 of each recording.
    :param created: UTC, ISO 8601.
    :param digest: SHA-256 of this record with an empty digest: damage is noticed.
    """

    format_version: int = FORMAT_VERSION
    robot: str
    task: str
    contract: str
    verdict: Literal['hold', 'stop']
    distribution: Distribution
    calibration: Calibrated
    risk: Risk | UnsetType = UNSET
    fitted_episodes: int
    policies: tuple[str, ...]
    data: dict[str, str]
    created: str
    digest: str = ''

    def sealed(self) -> 'GuardFile':
        """Return the same record with its digest filled in."""
        return structs.replace(self, digest=self.expected_digest())

    def expected_digest(self) -> str:
        """Return the digest that belongs to the other fields, 64 hexadecimal digits."""
        bare = structs.replace(self, digest='')
        return hashlib.sha256(json.encode(bare, order='deterministic')).hexdigest()

    def to_json(self) -> bytes:
        """Return it as JSON, the counterpart of :func:`parse_guard`."""
        return json.encode(self, order='deterministic') + b'\n'


def read_guard(path: str, contract: Contract) -> GuardFile:
    """
    Return the guard in a file.

    :param contract: that it must have been made for.
    :raises ConfigError: it cannot be read, is damaged, or was made for something else.
    """
    try:
        with Path(path).open('rb') as file:
            content = file.read(MAX_GUARD_BYTES + 1)
    except OSError as error:
        raise ConfigError(f'guard {path} cannot be read: {error.strerror}; "rl_nodes safety '
                          'calibrate" makes one') from None
    if len(content) > MAX_GUARD_BYTES:
        raise ConfigError(f'guard {path} has more than {MAX_GUARD_BYTES} bytes; it is no guard')
    return parse_guard(content, contract, path)


def parse_guard(content: bytes, contract: Contract, source: str) -> GuardFile:
    """
    Return the guard in some bytes.

    :param contract: that it must have been made for.
    :param source: where they come from, for error messages.
    :raises ConfigError: damaged, or made for something else.
    """
    again = 'make it again with "rl_nodes safety calibrate"'
    try:
        found = json.decode(content, type=GuardFile)
    except (MsgspecError, ValueError, RecursionError) as error:
        raise ConfigError(f'{source}: no guard of this version of rl_nodes: {error}; '
                          f'{again}') from None
    if found.format_version != FORMAT_VERSION or found.digest != found.expected_digest():
        raise ConfigError(f'{source}: format {found.format_version}, expected {FORMAT_VERSION}, '
                          f'and a digest that fits: it is of another version, damaged or was '
                          f'edited; {again}')
    if found.contract != contract.fingerprint():
        raise ConfigError(f'{source}: made for {found.robot} doing {found.task}, contract '
                          f'{found.contract[:16]}..., this is {contract.robot} doing '
                          f'{contract.task}, contract {contract.fingerprint()[:16]}...; {again}')
    part, size = found.distribution, 2 * len(contract.observation.elements)
    shapes = {len(part.mean), len(part.deviation), len(part.whitening),
              *(len(row) for row in part.whitening)}
    if shapes != {size} or not np.isfinite([part.mean, part.deviation, *part.whitening]).all() \
            or not min(part.deviation) > 0.0:
        raise ConfigError(f'{source}: its distribution is not one of {size} finite elements with '
                          f'deviations above 0; {again}')
    return found
