# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A frozen record to declared ROS parameters and back.

Each field becomes a parameter with its default, its range and the description from the record's
docstring; read-only, except for those that the record names in ``settable``. A parameter that was
given but is not declared is an error: ROS itself would ignore a misspelt name without a word.
"""

import re
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints, TypeVar

from msgspec import Meta, NODEFAULT, Struct
from msgspec.structs import fields
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rl_nodes.core.config import convert, suggestion
from rl_nodes.core.errors import ConfigError

T = TypeVar('T', bound=Struct)
Priority = Annotated[int, Meta(ge=0, le=99)]

# Declared by rclpy itself, so no misspelling of ours.
_FOREIGN = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')


class NodeParameters(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of every node.

    :param robot: name in config/robots or path to a YAML file
    :param task: name in config/tasks or path to a YAML file
    :param stepping: lockstep (simulated time, the robot waits) or realtime
    :param autostart: configure and activate at start; otherwise wait for a life-cycle manager
    :param real_time_factor: simulated seconds per second, 0.1 to 10. In lockstep an upper bound,
        0 for as fast as possible; in real time the tick of the simulated robot, 0 for 1
    :param target_return: what an episode is to earn, where the task observes return_to_go: a
        number as text, empty for what the task says
    """

    settable: ClassVar[tuple[str, ...]] = ()  # may be set while the node runs

    robot: str = 'arm'
    task: str = 'reach'
    stepping: str = 'realtime'
    autostart: bool = True
    real_time_factor: Annotated[float, Meta(ge=0, le=10)] = 0.0
    target_return: str = ''

    def __post_init__(self) -> None:
        if self.stepping not in ('lockstep', 'realtime'):
            raise ValueError(f'stepping = {self.stepping!r}; allowed: lockstep, realtime')
        if 0 < self.real_time_factor < 0.1:
            raise ValueError(f'real_time_factor = {self.real_time_factor}; allowed: 0, 0.1 to 10')


def declare(node: Node, record: type[T]) -> T:
    """
    Declare a record's fields as parameters of a node and return the record with their values.

    :raises ConfigError: an unknown parameter, a wrong type or a value out of range.
    """
    known = {field.name: field for field in fields(record)}
    for name in node._parameter_overrides:
        if name not in known and not name.startswith(_FOREIGN):
            raise ConfigError(f'node {node.get_name()}: unknown parameter {name!r}'
                              f'{suggestion(name, known)}; parameters: {", ".join(known)}')
    hints = get_type_hints(record, include_extras=True)
    described = _descriptions(record)
    values: dict[str, Any] = {}
    for name, field in known.items():
        default = None if field.default is NODEFAULT else field.default
        try:
            values[name] = node.declare_parameter(
                name, default, _descriptor(hints[name], described.get(name, ''),
                                           name not in getattr(record, 'settable', ()))).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ConfigError(f'node {node.get_name()}: parameter {name}: {error}') from None
    return convert(values, record, f'node {node.get_name()}')


def _descriptor(hint: Any, description: str, read_only: bool) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if get_origin(hint) is Annotated:
        kind, *metas = get_args(hint)
        for meta in metas:
            if not isinstance(meta, Meta):
                continue
            low = meta.ge if meta.ge is not None else meta.gt
            high = meta.le if meta.le is not None else meta.lt
            if low is None and high is None:
                continue
            if kind is int:
                descriptor.integer_range = [IntegerRange(
                    from_value=int(low if low is not None else -2**62),
                    to_value=int(high if high is not None else 2**62), step=0)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(
                    from_value=float(low if low is not None else -1e300),
                    to_value=float(high if high is not None else 1e300), step=0.0)]
    return descriptor


def _descriptions(record: type[Struct]) -> dict[str, str]:
    """Return the text behind each ``:param name:`` of a record and its bases."""
    found: dict[str, str] = {}
    for kind in reversed(record.__mro__):
        for name, text in re.findall(r':param (\w+):\s*(.+?)(?=\n\s*:param|\n\s*\n|\s*$)',
                                     kind.__doc__ or '', re.DOTALL):
            found[name] = ' '.join(text.split())
    return found
