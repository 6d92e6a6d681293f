# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Domain randomisation: what a task varies from episode to episode, and the one place that draws it.

Everything is drawn from the generator that the episode's start comes from, in the order of the
records below. Difficulty moves every draw x towards its nominal value n: (1 - d) n + d x.
"""

from collections.abc import Iterator

from msgspec import Struct
import numpy as np
from rl_nodes.core.config import field_names, suggestion
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.robot import RobotModel
from rl_nodes.core.variation import Disturbance, Physics, Push, Variation

Range = tuple[float, float]

MOST_DELAY = 4.0     # control periods
CUT = 3.0            # standard deviations at which a normal distribution ends
SEEDS = 2**32        # a seed is recorded as a float64, which is exact up to 2**53


class Spread(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A distribution other than the uniform one of a plain [low, high]; exactly one of its keys.

    :param log_uniform: [low, high], both above 0.
    :param normal: [mean, standard deviation], cut at three standard deviations.
    """

    log_uniform: Range | None = None
    normal: Range | None = None

    def __post_init__(self) -> None:
        if (self.log_uniform is None) == (self.normal is None):
            raise ValueError('expected exactly one of log_uniform, normal')
        if self.log_uniform is not None and not self.log_uniform[0] > 0:
            raise ValueError(f'log_uniform: {list(self.log_uniform)} must lie above 0')
        if self.normal is not None and not self.normal[1] >= 0:
            raise ValueError(f'normal: standard deviation {self.normal[1]} is below 0')


Distribution = Range | Spread


def limits(distribution: Distribution) -> Range:
    """Return the least and the greatest value that a distribution gives."""
    if not isinstance(distribution, Spread):
        return distribution
    if distribution.log_uniform is not None:
        return distribution.log_uniform
    mean, deviation = distribution.normal or (0.0, 0.0)
    return mean - CUT * deviation, mean + CUT * deviation


def draw(distribution: Distribution, rng: np.random.Generator, count: int = 1) -> np.ndarray:
    """Return ``count`` values, shape (count,)."""
    if not isinstance(distribution, Spread):
        return rng.uniform(*distribution, count)
    if distribution.log_uniform is not None:
        return np.exp(rng.uniform(*np.log(distribution.log_uniform), count))
    mean, deviation = distribution.normal or (0.0, 0.0)
    return mean + deviation * np.clip(rng.standard_normal(count), -CUT, CUT)


def _require(record: Struct, low: float, high: float, names: tuple[str, ...] = ()) -> None:
    """Refuse a distribution of a record that is upside down or leaves [low, high]."""
    for name in names or field_names(type(record)):
        distribution = getattr(record, name)
        if distribution is None:
            continue
        least, greatest = limits(distribution)
        if not low <= least <= greatest <= high:
            raise ValueError(f'{name}: draws from {least:g} to {greatest:g}; expected rising '
                             f'values from {low:g} to {high:g}')


class Noise(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Standard deviation of the error of each measured quantity, drawn once per episode.

    :param joint_position: [rad or m].
    :param joint_velocity: [rad/s or m/s].
    :param base_position: of a floating base [m].
    :param base_orientation: turn about a random axis [rad].
    :param base_linear_velocity: [m/s].
    :param base_angular_velocity: [rad/s].
    """

    joint_position: Distribution | None = None
    joint_velocity: Distribution | None = None
    base_position: Distribution | None = None
    base_orientation: Distribution | None = None
    base_linear_velocity: Distribution | None = None
    base_angular_velocity: Distribution | None = None

    def __post_init__(self) -> None:
        _require(self, 0.0, 1e3)


class Pushes(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Horizontal pushes, one in each interval, at a random time and from a random side.

    :param every_s: length of the interval.
    :param impulse_n_s: of each push [N·s].
    :param duration_s: of each push; less than the interval.
    :param link: the link pushed; empty for ``base_link`` where it floats, else the last link of
        the arm.
    """

    every_s: Distribution
    impulse_n_s: Distribution
    duration_s: Distribution = (0.1, 0.1)
    link: str = ''

    def __post_init__(self) -> None:
        _require(self, 1e-3, 1e6, ('every_s', 'duration_s'))
        _require(self, 0.0, 1e6, ('impulse_n_s',))
        if not limits(self.duration_s)[1] < limits(self.every_s)[0]:
            raise ValueError(f'duration_s: up to {limits(self.duration_s)[1]:g} s, which is not '
                             f'less than every_s, from {limits(self.every_s)[0]:g} s')


class Randomisation(Struct, frozen=True, forbid_unknown_fields=True):
    """
    The section ``randomisation`` of a task; what is left out does not vary.

    Scales are multiples of what the robot's files say. Each distribution is [low, high] or a
    :class:`Spread`.

    :param mass_scale: of each solid, drawn for each; inertia scales alike.
    :param friction_scale: of the ground.
    :param strength_scale: of each drive's effort limit and gain, drawn for each.
    :param damping_scale: of each joint, drawn for each.
    :param gravity_scale: of the world.
    :param action_delay: from a state to the effect of its command [control periods].
    :param observation_delay: age of what is measured [control periods].
    :param noise: see :class:`Noise`.
    :param pushes: see :class:`Pushes`.
    """

    mass_scale: Distribution | None = None
    friction_scale: Distribution | None = None
    strength_scale: Distribution | None = None
    damping_scale: Distribution | None = None
    gravity_scale: Distribution | None = None
    action_delay: Distribution | None = None
    observation_delay: Distribution | None = None
    noise: Noise | None = None
    pushes: Pushes | None = None

    def __post_init__(self) -> None:
        _require(self, 0.05, 20.0, ('mass_scale', 'strength_scale'))
        _require(self, 0.0, 20.0, ('friction_scale', 'damping_scale', 'gravity_scale'))
        _require(self, 0.0, MOST_DELAY, ('action_delay', 'observation_delay'))


class Randomiser:
    """
    A task's randomisation for its robot.

    :param config: the section; None draws no more than the difficulty.
    :param robot: whose solids, joints and drives vary.
    :ivar names: of the values that every draw has, in order.
    :raises ConfigError: noise of a base that does not float, or a link that is not there.
    """

    def __init__(self, config: Randomisation | None, robot: RobotModel) -> None:
        self._config = config or Randomisation()
        self._rate_hz = robot.config.rate_hz
        floating = robot.home_base is not None
        joints = robot.joint_names
        solids = (robot.config.base_link, *(robot.urdf.joints[name].child for name in joints))
        self._first = 0 if floating else 1  # a base that stands on the world needs no mass
        self._noise = _given(self._config.noise)
        for name in self._noise:
            if name.startswith('base_') and not floating:
                raise ConfigError(f'randomisation.noise.{name}: robot {robot.name} has no '
                                  'floating base')
        self._push = self._find(self._config.pushes, solids) if self._config.pushes else 0
        self._sizes = {'mass_scale': solids[self._first:], 'friction_scale': (),
                       'strength_scale': robot.command_names, 'damping_scale': joints,
                       'gravity_scale': (), 'action_delay': (), 'observation_delay': ()}
        self.names = ('difficulty', *self._names())

    def draw(self, rng: np.random.Generator, difficulty: float) -> Variation:
        """
        Return what is different in the next episode.

        :param difficulty: 0 (nothing) to 1 (as configured).
        """
        config = self._config
        rows: list[np.ndarray] = [np.array([difficulty])]

        def value(name: str, nominal: float, given: Distribution | None, count: int) -> np.ndarray:
            """Return one kind of value, shape (count,), and note it where it varies."""
            if given is None:
                return np.full(count, nominal)
            rows.append((1.0 - difficulty) * nominal + difficulty * draw(given, rng, count))
            return rows[-1]

        drawn = {name: value(name, 0.0 if name.endswith('delay') else 1.0, getattr(config, name),
                             max(1, len(elements))) for name, elements in self._sizes.items()}
        noise = {name: float(value(name, 0.0, given, 1)[0])
                 for name, given in self._noise.items()}
        push = None
        if config.pushes is not None:
            every = draw(config.pushes.every_s, rng)
            impulse = value('impulse_n_s', 0.0, config.pushes.impulse_n_s, 1)
            duration = np.maximum(draw(config.pushes.duration_s, rng), 1.0 / self._rate_hz)
            rows[-1:] = [every, impulse, duration]
            push = Push(self._push, *map(float, np.concatenate([every, impulse, duration])))
        physics = disturbance = None
        if any(getattr(config, name) is not None for name in _PHYSICS):
            physics = Physics(
                np.concatenate([np.ones(self._first), drawn['mass_scale']]),
                drawn['damping_scale'], drawn['strength_scale'],
                float(drawn['friction_scale'][0]), float(drawn['gravity_scale'][0]))
        if self.disturbs:
            seed = int(rng.integers(SEEDS))
            rows.append(np.array([float(seed)]))
            disturbance = Disturbance(seed, float(drawn['action_delay'][0]),
                                      float(drawn['observation_delay'][0]), noise, push)
        values = np.concatenate(rows).tolist()
        return Variation(difficulty, dict(zip(self.names, values, strict=True)), physics,
                         disturbance)

    @property
    def disturbs(self) -> bool:
        """Return whether there is anything between simulator and commands."""
        config = self._config
        return bool(self._noise or config.pushes or config.action_delay is not None
                    or config.observation_delay is not None)

    def _names(self) -> Iterator[str]:
        for name, elements in self._sizes.items():
            if getattr(self._config, name) is not None:
                yield from (f'{name}/{element}' for element in elements) if elements else (name,)
        yield from (f'noise/{name}' for name in self._noise)
        if self._config.pushes is not None:
            yield from ('push/every_s', 'push/impulse_n_s', 'push/duration_s')
        if self.disturbs:
            yield 'seed'

    def _find(self, pushes: Pushes, solids: tuple[str, ...]) -> int:
        """Return the number of the solid that is pushed."""
        if not pushes.link:
            return 0 if self._first == 0 else len(solids) - 1
        known = solids[self._first:]
        if pushes.link not in known:
            raise ConfigError(f'randomisation.pushes.link = {pushes.link!r}'
                              f'{suggestion(pushes.link, known)}; links that can be pushed: '
                              f'{", ".join(known)}')
        return solids.index(pushes.link)


_PHYSICS = ('mass_scale', 'friction_scale', 'strength_scale', 'damping_scale', 'gravity_scale')


def _given(noise: Noise | None) -> dict[str, Distribution]:
    """Return the quantities that are noisy, in order."""
    return {} if noise is None else {
        name: given for name in field_names(Noise)
        if (given := getattr(noise, name)) is not None}
