# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""The section ``safety`` of a robot's YAML file."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]
Vector = tuple[float, float, float]

# Checks that may refuse a command as a whole instead of limiting it.
Refusable = Literal['first_command', 'velocity', 'acceleration', 'jerk', 'effort', 'position',
                    'coupling', 'geometry']
Fallback = Literal['brake', 'retreat', 'pd', 'lqr']

# What the numbers of ``size`` are [m], by shape.
SIZES = {'plane': (), 'box': ('length x', 'length y', 'length z'), 'sphere': ('radius',),
         'capsule': ('radius', 'length of the straight part'), 'cylinder': ('radius', 'height')}


class BodyConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Something that a link carries beside what the URDF says: a tool, a payload, a cable.

    :param name: shown where it comes too near to something.
    :param link: that it is fixed to.
    :param shape: box, sphere, capsule or cylinder; the last two along z.
    :param size: see :data:`SIZES` [m].
    :param xyz: its center in the link's frame [m].
    :param rpy: its orientation there [rad].
    """

    name: Name
    link: Name
    shape: Literal['box', 'sphere', 'capsule', 'cylinder']
    size: tuple[Positive, ...]
    xyz: Vector = (0.0, 0.0, 0.0)
    rpy: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        require_size(self.shape, self.size)


class ZoneConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A part of the space around the robot, fixed in ``base_link``.

    :param name: shown where something comes too near to its border.
    :param keep: out: the links stay outside; in: they stay inside.
    :param shape: plane (inside is where its z axis points), box, sphere or capsule (along z).
    :param size: see :data:`SIZES` [m].
    :param xyz: its center, of a plane any of its points [m].
    :param rpy: its orientation [rad].
    :param links: that it is for, with what they carry; none for every link that moves.
    """

    name: Name
    keep: Literal['in', 'out']
    shape: Literal['plane', 'box', 'sphere', 'capsule']
    size: tuple[Positive, ...] = ()
    xyz: Vector = (0.0, 0.0, 0.0)
    rpy: Vector = (0.0, 0.0, 0.0)
    links: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_size(self.shape, self.size)


class GeometryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Where the links may be. They are covered by capsules, so distances are never overestimated.

    :param self_collision: links keep clear of each other, but for neighbours and ``ignore``.
    :param ignore: pairs of links that may touch.
    :param zones: see :class:`ZoneConfig`.
    :param bodies: see :class:`BodyConfig`.
    :param stop_m: clearance that is always kept [m].
    :param slow_m: clearance from which on an approach is slowed down [m].
    :param approach: share of the clearance beyond ``stop_m`` that one period may use up.
    """

    self_collision: bool = False
    ignore: tuple[tuple[str, str], ...] = ()
    zones: tuple[ZoneConfig, ...] = ()
    bodies: tuple[BodyConfig, ...] = ()
    stop_m: NotNegative = 0.005
    slow_m: Positive = 0.03
    approach: Annotated[float, Meta(gt=0, le=1)] = 0.25

    def __post_init__(self) -> None:
        if not self.stop_m < self.slow_m:
            raise ValueError(f'stop_m = {self.stop_m} is not below slow_m = {self.slow_m}')
        names = [*(zone.name for zone in self.zones), *(body.name for body in self.bodies)]
        if len(set(names)) != len(names):
            raise ValueError(f'a name is given twice: {", ".join(names)}')


class CouplingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A limit on a weighted sum of joint positions, as of joints that share a cable or a gear.

    :param name: shown where it limits.
    :param weights: weight of each joint that counts, by name.
    :param lower: least sum [rad or m].
    :param upper: greatest sum [rad or m].
    """

    name: Name
    weights: dict[str, float]
    lower: float | None = None
    upper: float | None = None

    def __post_init__(self) -> None:
        if not any(self.weights.values()):
            raise ValueError(f'coupling {self.name}: weights of nothing but zeros limit nothing')
        if self.lower is None and self.upper is None:
            raise ValueError(f'coupling {self.name}: give lower, upper or both')
        if self.lower is not None and self.upper is not None and not self.lower < self.upper:
            raise ValueError(f'coupling {self.name}: lower = {self.lower} is not below upper = '
                             f'{self.upper}')


class ChatterConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A command that keeps changing direction wears out gears and says that something is wrong.

    :param window_s: how far back changes count.
    :param reversals: of one joint within the window that are too many.
    :param amplitude: least command that has a direction, as a share of the joint's limit.
    :param verdict: stop; or hold, until enough of the window has passed.
    """

    window_s: Positive
    reversals: Annotated[int, Meta(ge=2)]
    amplitude: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    verdict: Literal['hold', 'stop'] = 'stop'


class SensingConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What measured positions cannot be: then an encoder, a unit or a driver is wrong.

    :param jump: greatest change of a joint's position, as a multiple of what its speed limit
        allows since the state before; one that is greater is left aside, the second stops.
    :param frozen_s: how long all positions and velocities may stay the same, to the last bit,
        while the robot is told to move.
    :param moving: least command that tells a joint to move, as a share of its limit.
    :param outside: how far outside its range a joint may measure, as a share of the range.
    """

    jump: Annotated[float, Meta(gt=1)] = 3.0
    frozen_s: Positive = 0.5
    moving: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    outside: Positive = 0.5


class CostConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    What may happen for a while in an episode, but not for long.

    :param name: shown where the budget is spent.
    :param counts: limited: time with commands that a check limits or refuses; near: time with any
        links, or a link and a zone, of ``geometry`` nearer than ``clearance_m``.
    :param budget_s: most of that in one episode [s].
    :param clearance_m: what near means [m].
    :param verdict: of every further command of the episode.
    """

    name: Name
    counts: Literal['limited', 'near']
    budget_s: NotNegative
    clearance_m: NotNegative = 0.0
    verdict: Literal['hold', 'stop'] = 'stop'

    def __post_init__(self) -> None:
        if (self.counts == 'near') != (self.clearance_m > 0.0):
            raise ValueError(f'cost {self.name}: counts {self.counts} with clearance_m = '
                             f'{self.clearance_m}; near needs one above 0, limited takes none')


class RetreatConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    The fallback ``retreat``: straight in joint space to a pose where the robot may wait.

    :param pose: of the commanded joints [rad or m]; left out, their home.
    :param speed: greatest joint speed [rad/s or m/s].
    :param tolerance: distance at which a joint has arrived [rad or m].
    :param timeout_s: after this long the next fallback takes over.
    """

    pose: tuple[float, ...] | None = None
    speed: Positive = 0.3
    tolerance: Positive = 0.05
    timeout_s: Positive = 15.0


class EstopLineConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    A file or character device that says whether an emergency stop is pressed.

    A regular file, as ``/sys/class/gpio/gpio17/value``, is read anew each time. Anything else, as
    a serial line or a named pipe, has to send whole lines again and again; each of them counts.

    :param path: of the file or device.
    :param released: the text while nobody presses; any other, and an error, is pressed.
    :param rate_hz: how often it is read.
    """

    path: Name
    released: Name
    rate_hz: Annotated[float, Meta(ge=1, le=1000)] = 100.0


class EstopConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Emergency-stop inputs of the safety monitor; each one stops the robot.

    :param topic: ``safety_monitor/estop`` is one; somebody has to send false on it all the time.
    :param line: see :class:`EstopLineConfig`; none where no file or device is read.
    :param timeout_s: silence of an input that counts as pressed.
    """

    topic: bool = False
    line: EstopLineConfig | None = None
    timeout_s: Positive = 0.1

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError('estop without an input; give topic: true, line: {...} or both')
        if self.line is not None and self.timeout_s * self.line.rate_hz < 2.0:
            raise ValueError(f'estop: timeout_s = {self.timeout_s} is not two periods of '
                             f'line.rate_hz = {self.line.rate_hz}')

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the inputs that there are."""
        return (*(('topic',) if self.topic else ()), *(('line',) if self.line else ()))


class SafetyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """
    How the safety monitor and the bridge treat this robot.

    :param watchdog_s: silence of the commanding node after which the monitor stops the robot.
    :param command_timeout_s: age after which a command is void, and silence after which the
        bridge holds on its own; not below ``watchdog_s``.
    :param skew_s: how far a stamp may lie in the future.
    :param healthy_s: how long states and commands must have been without fault before a stop can
        be cleared.
    :param position_margin: kept free at each end of a joint's range [rad or m].
    :param overspeed: measured speed, as a multiple of the joint's limit, that stops the robot.
    :param scale: what limits of speed, acceleration and jerk shorten: the whole command, which
        keeps its direction, or each joint's part by itself.
    :param refuse: checks that refuse a command as a whole (HOLD) instead of limiting it;
        ``first_command`` has no other way and counts only where it is listed.
    :param coupling: see :class:`CouplingConfig`.
    :param chatter: see :class:`ChatterConfig`; none where commands may change direction at will.
    :param sensing: see :class:`SensingConfig`; none where measured positions are believed.
    :param geometry: see :class:`GeometryConfig`; none where the links are not looked at.
    :param costs: see :class:`CostConfig`.
    :param fallback: what the robot does once stopped for a command or for silence: each in turn
        where the one before fails, and in the end it holds.
    :param retreat: see :class:`RetreatConfig`.
    :param estop: see :class:`EstopConfig`; none where nothing of the kind is connected.
    :param clear_needs_deadman: a stop is cleared only while somebody holds the deadman of a
        teleoperation device.
    """

    watchdog_s: Positive
    command_timeout_s: Positive
    skew_s: Positive = 0.02
    healthy_s: NotNegative = 1.0
    position_margin: NotNegative = 0.0
    overspeed: Annotated[float, Meta(gt=1)] = 2.0
    scale: Literal['whole', 'each'] = 'whole'
    refuse: tuple[Refusable, ...] = ()
    coupling: tuple[CouplingConfig, ...] = ()
    chatter: ChatterConfig | None = None
    sensing: SensingConfig | None = None
    geometry: GeometryConfig | None = None
    costs: tuple[CostConfig, ...] = ()
    fallback: tuple[Fallback, ...] = ()
    retreat: RetreatConfig = RetreatConfig()
    estop: EstopConfig | None = None
    clear_needs_deadman: bool = False

    def __post_init__(self) -> None:
        if self.command_timeout_s < self.watchdog_s:
            raise ValueError('command_timeout_s must not be below watchdog_s')
        names = [cost.name for cost in self.costs]
        if len(set(names)) != len(names):
            raise ValueError(f'costs: a name is given twice: {", ".join(names)}')


def require_size(shape: str, size: tuple[float, ...]) -> None:
    """Raise ValueError where a size does not fit its shape."""
    wanted = SIZES[shape]
    if len(size) != len(wanted):
        raise ValueError(f'size of a {shape} has {len(size)} numbers, expected '
                         f'{", ".join(wanted) or "none"}')
