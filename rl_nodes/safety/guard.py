# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Guards: what makes a verdict graver because of the situation that the robot is in.

A guard is asked after the checks on values, of which it knows the judgement. It answers HOLD, STOP
or nothing, and counts only where it is graver: no guard, whatever it computes, lets through what
the checks do not. What a guard cannot compute, or is not a number, is an alarm.

The file of a guard (``rl_nodes safety calibrate`` writes it) belongs to one contract. What is
scored is an observation together with the one a period before, x, so that a change that does not
go with the state counts as well as the state. Its distance from episodes that went well (P. C.
Mahalanobis 1936; K. Lee et al. 2018, arXiv:1807.03888, find with it what a network was not trained
on) is averaged over some periods (S. W. Roberts 1959; C. A. Lowry et al. 1992, Technometrics 34):

    z = (x - mean) / deviation,   d = |W z|,   W C W^T = 1                                      (1)
    C = (1 - s) R + s 1,   R the correlations of z                                              (2)
    score_t^2 = (1 - w) score_{t-1}^2 + w d_t^2,   0 at the first state of an episode           (3)

with w = ``WEIGHT`` and s, how far C is shrunk towards independent elements, by O. Ledoit and M.
Wolf 2004 (J. of Multivariate Analysis 88), lemma 3.2 to 3.4, not below ``LEAST_SHRINKAGE``: an
element that is a sum of others must not make C singular.
"""

from collections.abc import Callable
import hashlib
import math
from typing import Annotated, Literal, NamedTuple, Protocol

from msgspec import json, Meta, MsgspecError, Struct, structs, UNSET, UnsetType
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.timing import NS
from rl_nodes.core.types import RobotState
from rl_nodes.safety.gate import Judgement
from rl_nodes.safety.limits import Finding
from rl_nodes.safety.verdict import Level

FORMAT_VERSION = 1
MAX_GUARD_BYTES = 32 * 1024**2
WEIGHT = 0.1
LEAST_SHRINKAGE = 1e-3
LEAST_DEVIATION = 1e-3  # [unit of the element], of one that hardly varied
LEVELS = {'hold': Level.HOLD, 'stop': Level.STOP}

Share = Annotated[float, Meta(gt=0, lt=1)]
Numbers = tuple[float, ...]
Ask = Callable[[np.ndarray, RobotState, np.ndarray], float]


class Guard(Protocol):
    """
    Looks at the situation of a command that the checks on values have judged.

    :ivar name: shown where it decides.
    """

    name: str

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """
        Return a finding of HOLD or STOP, or None where there is nothing to object.

        :param judged: what the checks on values and the guards before say; no STOP.
        :param command: as it came where these allow none of it, else what they allow, (A,).
        :param state: measured when the command was computed.
        :param moving: False while the robot is stopped, whatever is found.
        """


def tightened(judged: Judgement, guard: Guard, command: np.ndarray, state: RobotState,
              moving: bool) -> Judgement:
    """Return a judgement, or that of a guard where it is graver."""
    if judged.level == Level.STOP:  # the command may be no numbers at all
        return judged
    finding = guard.check(judged, command if judged.allowed is None else judged.allowed, state,
                          moving)
    if finding is None or finding.level <= max(judged.level, Level.CLAMP):
        return judged
    return Judgement(finding.level, guard.name, finding.reason, None)


# --- The file ---------------------------------------------------------------------------------

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


class Distribution(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Pairs x of observations of episodes that went well, P = 2 O elements, eq. (1).

    :param mean: [unit of the element], P numbers.
    :param deviation: [unit of the element], P numbers above 0.
    :param whitening: W, P rows of P numbers.
    """

    mean: Numbers
    deviation: Numbers
    whitening: tuple[Numbers, ...]


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


# --- Scores -----------------------------------------------------------------------------------

def pairs(observations: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """
    Return each observation with the one a period before, newest first, shape (M, 2 O), float64.

    :param observations: of one episode, in order, shape (N, O).
    :param steps: period that each belongs to, shape (N,).
    """
    next_to = np.flatnonzero(np.diff(steps) == 1)
    return np.concatenate([observations[next_to + 1], observations[next_to]], axis=1,
                          dtype=np.float64)


def fit(rows: np.ndarray) -> Distribution:
    """
    Return the distribution of pairs, eq. (2).

    :param rows: shape (N, P), finite, N above 1.
    """
    mean = rows.mean(axis=0)
    deviation = np.maximum(rows.std(axis=0), LEAST_DEVIATION)
    z = (rows - mean) / deviation
    count, size = z.shape
    correlation = z.T @ z / count
    middle = np.trace(correlation) / size
    spread = np.sum((correlation - middle * np.eye(size)) ** 2) / size
    error = (np.sum(np.sum(z ** 2, axis=1) ** 2) / count
             - np.sum(correlation ** 2)) / size / count
    shrinkage = min(1.0, max(LEAST_SHRINKAGE, error / spread if spread > 0.0 else 1.0))
    shrunk = (1.0 - shrinkage) * correlation + shrinkage * np.eye(size)
    whitening = np.linalg.inv(np.linalg.cholesky(shrunk))
    return Distribution(tuple(mean.tolist()), tuple(deviation.tolist()),
                        tuple(tuple(row) for row in whitening.tolist()))


class Score:
    """
    Eq. (1) and (3), one state after the other.

    :param distribution: of pairs.
    :param period_ns: of control [ns].
    :ivar value: the newest score; NaN where an observation was not finite.
    """

    def __init__(self, distribution: Distribution, period_ns: int) -> None:
        self._mean = np.array(distribution.mean)
        self._scale = 1.0 / np.array(distribution.deviation)
        self._whitening = np.array(distribution.whitening)
        self._gap_ns = period_ns + period_ns // 2
        self._pair = np.zeros(len(self._mean))
        self._size = len(self._mean) // 2
        self._at: tuple[int, str] | None = None  # (stamp [ns], episode) of the newest observation
        self._square, self.value = 0.0, 0.0

    def update(self, stamp_ns: int, episode: str, observation: np.ndarray) -> float:
        """
        Return the score with one more state; one that comes after a gap changes nothing yet.

        :param stamp_ns: of the state [ns].
        :param episode: id of its episode.
        :param observation: shape (O,).
        """
        pair, size, before = self._pair, self._size, self._at
        if before is None or before[1] != episode:
            self._square = self.value = 0.0
        elif stamp_ns == before[0]:
            return self.value
        pair[size:] = pair[:size]
        pair[:size] = observation
        self._at = stamp_ns, episode
        if before is not None and before[1] == episode \
                and 0 < stamp_ns - before[0] <= self._gap_ns:
            square = self._distance_square()
            finite = math.isfinite(square)
            self._square = (1.0 - WEIGHT) * self._square + WEIGHT * square if finite else 0.0
            self.value = math.sqrt(self._square) if finite else math.nan
        return self.value

    def furthest(self) -> tuple[int, float]:
        """Return (element of the observation, deviations off) that stands out most now."""
        z = (self._pair - self._mean) * self._scale
        worst = int(np.argmax(np.abs(z)))
        return worst % self._size, float(z[worst])

    def _distance_square(self) -> float:
        z = (self._pair - self._mean) * self._scale
        if not math.isfinite(z @ z):
            return math.nan
        white = self._whitening @ z
        return float(white @ white)


def greatest(distribution: Distribution, observations: np.ndarray, steps: np.ndarray) -> float:
    """Return the greatest score of an episode; parameters as of :func:`fit`, :func:`pairs`."""
    score = Score(distribution, 1)
    return max(score.update(step, '', row) for step, row in zip(steps.tolist(), observations))


# --- The guards -------------------------------------------------------------------------------

class Seen(NamedTuple):
    """An observation (O,), float32, and of which state it is."""

    stamp_ns: int
    observation: np.ndarray


class Eye:
    """
    What was observed last, for the guards that look at it.

    :param patience_s: how much older than the state of a command an observation may be: the
        goal of a new episode may arrive after its first state.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_ns = round(patience_s * NS)
        self._seen: Seen | None = None

    def see(self, stamp_ns: int, observation: np.ndarray) -> None:
        """Take the observation of a state."""
        self._seen = Seen(stamp_ns, observation)

    def of(self, state: RobotState) -> np.ndarray | None:
        """Return what was observed of a state or just before it, (O,); None for nothing."""
        seen = self._seen
        if seen is None or not 0 <= state.stamp_ns - seen.stamp_ns <= self._patience_ns:
            return None
        return seen.observation


class DistributionGuard:
    """
    Objects to observations that are far from those of episodes that went well.

    :param file: the guard.
    :param elements: names of the observation's elements.
    :param eye: what is observed.
    :param period_ns: of control [ns].
    """

    name = 'distribution'

    def __init__(self, file: GuardFile, elements: tuple[str, ...], eye: Eye,
                 period_ns: int) -> None:
        self._score, self._elements, self._eye = Score(file.distribution, period_ns), elements, eye
        self._threshold, self._level = file.calibration.threshold, LEVELS[file.verdict]

    @property
    def score(self) -> float:
        """Return the newest score."""
        return self._score.value

    def see(self, state: RobotState, observation: np.ndarray) -> None:
        """Take the observation (O,) of a state; all of them are to be seen, in order."""
        self._eye.see(state.stamp_ns, observation)
        self._score.update(state.stamp_ns, state.episode, observation)

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """See the base class."""
        if self._eye.of(state) is None:
            return _blind()
        score = self._score.value
        if score <= self._threshold:
            return None
        if not math.isfinite(score):
            return Finding(self._level, 'what is observed is not finite', None)
        worst, off = self._score.furthest()
        return Finding(self._level, f'what is observed is {score:.3g} away from what went well, '
                       f'the threshold is {self._threshold:.3g}; {self._elements[worst]} is '
                       f'{off:.1f} deviations off', None)


class RiskGuard:
    """
    Objects to actions that a network holds for risky.

    :param risk: its part of the guard's file.
    :param verdict: of an alarm.
    :param ask: the network: risk of (observation (O,), its state, command (A,)); TimeoutError
        where it takes too long.
    :param eye: what is observed.
    """

    name = 'risk'

    def __init__(self, risk: Risk, verdict: str, ask: Ask, eye: Eye) -> None:
        self._ask, self._eye = ask, eye
        self._threshold, self._level = risk.calibration.threshold, LEVELS[verdict]
        self.score = 0.0

    def check(self, judged: Judgement, command: np.ndarray, state: RobotState,
              moving: bool) -> Finding | None:
        """See the base class."""
        observation = self._eye.of(state)
        if observation is None:
            return _blind()
        try:
            self.score = score = self._ask(observation, state, command)
        except TimeoutError as error:  # this command is not let through; the next may be
            return Finding(Level.HOLD, f'no risk in time: {error}', None)
        except Exception as error:  # whatever a network does, a verdict comes of it
            return Finding(self._level, f'no risk: {error}', None)
        if score <= self._threshold:
            return None
        return Finding(self._level, f'the risk is {score:.3g}, the threshold is '
                       f'{self._threshold:.3g}', None)


def _blind() -> Finding:
    return Finding(Level.HOLD, 'nothing is observed that a guard could judge: a state or the goal '
                   'of its episode is missing', None)
