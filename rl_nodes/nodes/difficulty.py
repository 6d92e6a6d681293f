# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Sets the difficulty of episodes: the parameter ``difficulty`` of robot bridges."""

from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.task import Future
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.nodes.lifecycle import ManagedNode

LOOK_S = 0.1        # how often it looks whether something else is wanted
ANSWER_S = 2.0      # a call that is not answered for this long is made again


class DifficultySetter:
    """
    Sets what was wanted last, again and again until every bridge has taken it.

    Build it while the node configures.

    :param node: whose executor makes the calls, while it is active.
    :param bridges: names of the bridges, relative to the node's namespace.
    :ivar wanted: difficulty from 0 to 1; None before anything is wanted. Any thread may set it.
    """

    def __init__(self, node: ManagedNode, bridges: list[str]) -> None:
        self.wanted: float | None = None
        self._node = node
        self._clients = [node.create_client(SetParameters, f'{bridge}/set_parameters')
                         for bridge in bridges]
        self._taken: dict[Client, float] = {}
        self._pending: dict[Client, tuple[Future, int]] = {}
        node.every(LOOK_S, self._look)

    @property
    def taken(self) -> float | None:
        """Return the difficulty that every bridge has taken; None where they differ."""
        values = {self._taken.get(client) for client in self._clients}
        return values.pop() if len(values) == 1 else None

    def close(self) -> None:
        """Destroy the clients."""
        for client in self._clients:
            self._node.destroy_client(client)
        self._clients = []

    def _look(self) -> None:
        for client in self._clients:
            wanted = self.wanted
            if wanted is None or self._taken.get(client) == wanted or self._waits(client) \
                    or not client.service_is_ready():
                continue
            value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=wanted)
            future = client.call_async(SetParameters.Request(
                parameters=[Parameter(name='difficulty', value=value)]))
            self._pending[client] = (future, steady_ns())
            future.add_done_callback(
                lambda done, client=client, wanted=wanted: self._answered(client, wanted, done))

    def _waits(self, client: Client) -> bool:
        """Return whether an answer is still expected; a call without one is given up."""
        if client not in self._pending:
            return False
        future, at = self._pending[client]
        if steady_ns() - at < ANSWER_S * NS:
            return True
        client.remove_pending_request(future)
        del self._pending[client]
        return False

    def _answered(self, client: Client, wanted: float, future: Future) -> None:
        if self._pending.get(client, (None, 0))[0] is not future:
            return
        del self._pending[client]
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result().results[0]
        if result.successful:
            self._taken[client] = wanted
        else:
            self._node.get_logger().error(f'{client.srv_name} refuses difficulty {wanted}: '
                                          f'{result.reason}', throttle_duration_sec=10.0)
