# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The contract between a policy and a robot doing a task.

Robot configuration and task configuration together give the contract: joint order, units, limits,
rate, observation and action layout. Its fingerprint is stored in every dataset, checkpoint and
ONNX file and compared when nodes are configured.
"""

import hashlib
from typing import Annotated, Any, Literal

import msgspec
from rl_nodes.core.errors import ContractError
from rl_nodes.core.pictures import MOST_PICTURES, PictureSpec
from rl_nodes.core.specs import ArraySpec

_PER_ELEMENT = ('.units', '.low', '.high')  # say nothing new where elements are more or fewer
ControlMode = Literal['position', 'velocity', 'effort']


class Joint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    One joint as everything downstream of the robot sees it.

    :param name: as in the URDF and in every JointState.
    :param unit: ``rad`` for a revolute joint, ``m`` for a prismatic one.
    :param lower: least position; None where unlimited.
    :param upper: greatest position; None where unlimited.
    :param velocity: greatest speed [unit/s].
    :param effort: greatest effort [N·m or N].
    :param commanded: False for a passive joint, which is measured and never commanded.
    """

    name: str
    unit: Literal['rad', 'm']
    lower: float | None
    upper: float | None
    velocity: float
    effort: float
    commanded: bool = True


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Everything a policy relies on.

    :param robot: name of the robot.
    :param task: name of the task.
    :param rate_hz: control rate; 0 where the environment has no physical time.
    :param control_mode: what a command means.
    :param joints: all measured joints in order.
    :param observation: layout of the policy's input.
    :param action: layout of the policy's output.
    :param action_kind: how an action becomes a command, see ``tasks/actions.py``; or
        ``environment`` where it is a Gymnasium environment's own.
    :param kinematics: SHA-256 of the chain that the observation uses, then of the range sensor,
        then of the inertial measurement unit, then of where each observed camera is; empty where
        it uses none.
    :param privileged_spec: layout of what only a critic or a teacher may see while training; left
        out of the JSON where the task has none. To be read as :attr:`privileged`.
    :param pictures_spec: pictures that the policy observes besides, one of each camera; left out
        of the JSON where there are none. To be read as :attr:`pictures`.
    """

    robot: str
    task: str
    rate_hz: float
    control_mode: ControlMode
    joints: tuple[Joint, ...]
    observation: ArraySpec
    action: ArraySpec
    action_kind: str
    kinematics: str = ''
    privileged_spec: ArraySpec | msgspec.UnsetType = msgspec.field(
        name='privileged', default=msgspec.UNSET)
    pictures_spec: Annotated[tuple[PictureSpec, ...], msgspec.Meta(
        min_length=1, max_length=MOST_PICTURES)] | msgspec.UnsetType = msgspec.field(
        name='pictures', default=msgspec.UNSET)

    def __post_init__(self) -> None:
        cameras = [picture.camera for picture in self.pictures]
        if len(set(cameras)) != len(cameras):
            raise ValueError(f'a camera is listed twice: {", ".join(cameras)}')

    @property
    def pictures(self) -> tuple[PictureSpec, ...]:
        """Return the pictures beside the observation; none where the policy sees none."""
        specs = self.pictures_spec
        return () if isinstance(specs, msgspec.UnsetType) else specs

    @property
    def privileged(self) -> ArraySpec | None:
        """Return the layout of what the policy never sees; None where there is no such thing."""
        spec = self.privileged_spec
        return None if isinstance(spec, msgspec.UnsetType) else spec

    @property
    def action_choices(self) -> Literal['continuous', 'discrete']:
        """Return whether an action is numbers from a range or one of several that are counted."""
        return 'discrete' if self.action.dtype == 'int64' else 'continuous'

    @property
    def commanded(self) -> tuple[Joint, ...]:
        """Return the joints that commands name, in order."""
        return tuple(joint for joint in self.joints if joint.commanded)

    def to_json(self) -> str:
        """Return canonical JSON: the same contract always gives the same text."""
        return msgspec.json.encode(self, order='deterministic').decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> 'Contract':
        """Return the contract in ``text``; ContractError where it is none."""
        try:
            return msgspec.json.decode(text, type=cls)
        except (msgspec.MsgspecError, ValueError) as error:
            raise ContractError(f'not a contract of this version of rl_nodes: {error}') from None

    def fingerprint(self) -> str:
        """Return the SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def require(self, other: 'Contract', ours: str, theirs: str) -> None:
        """
        Compare with another party's contract.

        :param ours: what this contract belongs to, for the message.
        :param theirs: what ``other`` belongs to.
        :raises ContractError: lists every difference.
        """
        lines = self.explain(other, ours, theirs)
        if lines:
            raise ContractError('\n'.join([f'{theirs} does not fit {ours}:', *lines]))

    def explain(self, other: 'Contract', ours: str, theirs: str) -> list[str]:
        """Return a line for people for every difference; parameters as of :meth:`require`."""
        lines = []
        for key, mine, other_s in self.differences(other):
            texts = _only(mine, other_s), _only(other_s, mine)
            if any(texts):
                lines.append(f'  {key}: ' + ', '.join(
                    f'only {who} has {_short(only)}' for who, only in zip((ours, theirs), texts)
                    if only))
            elif not (_lengths_differ(mine, other_s) and key.endswith(_PER_ELEMENT)):
                lines.append(f'  {key}: {theirs} has {_short(other_s)}, {ours} has {_short(mine)}')
        return lines

    def differences(self, other: 'Contract') -> list[tuple[str, Any, Any]]:
        """Return (key, own value, other value) for every leaf that differs, in order."""
        return _differences('', msgspec.to_builtins(self), msgspec.to_builtins(other))


def _differences(key: str, a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        found = []
        for name in dict.fromkeys([*a, *b]):
            path = f'{key}.{name}' if key else name
            found += _differences(path, a.get(name), b.get(name))
        return found
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [row for i, (x, y) in enumerate(zip(a, b))
                for row in _differences(f'{key}[{i}]', x, y)]
    return [] if a == b else [(key, a, b)]


def _only(values: Any, others: Any) -> list[str]:
    """Return the names that only the first of two lists of different lengths has."""
    if not _lengths_differ(values, others) or not all(isinstance(name, str) for name in values):
        return []
    return [name for name in values if name not in others]


def _lengths_differ(values: Any, others: Any) -> bool:
    lists = isinstance(values, (list, tuple)) and isinstance(others, (list, tuple))
    return lists and len(values) != len(others)


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], dict):
        value = [entry.get('name', entry) for entry in value]
    text = str(value)
    return text if len(text) <= 120 else f'{text[:117]}...'
