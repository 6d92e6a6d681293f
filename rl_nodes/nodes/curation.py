# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""What a person asks of the recording with the buttons of a device, as calls of services."""

from rclpy.client import Client
from rclpy.task import Future
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.nodes.lifecycle import ManagedNode
from rl_nodes.teleop.device import Request
from std_srvs.srv import Trigger

_MARKS = {Request.SAVE: 'save_episode', Request.DISCARD: 'discard_episode',
          Request.REDO: 'discard_episode', Request.SUCCESS: 'mark_success',
          Request.FAILURE: 'mark_failure'}
ANSWER_S = 1.0  # a call that is not answered for this long is taken for one that did nothing
_THEN = {Request.SAVE: 'reset', Request.DISCARD: 'reset', Request.REDO: 'repeat'}


class Curator:
    """
    Tells the recorder what becomes of an episode, then the bridge how the next one starts.

    One request at a time: what is asked meanwhile is not heard.

    :param node: makes the clients while it configures.
    """

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self._asked: tuple[Request, Client, Future, int] | None = None
        self._recorder = {name: node.client_of(Trigger, f'experience_recorder/{name}')
                          for name in sorted(set(_MARKS.values()))}
        self._bridge = {name: node.client_of(Trigger, f'robot_bridge/{name}')
                        for name in ('reset', 'repeat')}
        node.every(ANSWER_S / 2, self._give_up)

    def request(self, request: Request) -> None:
        """Pass on what a person asks."""
        client = self._recorder[_MARKS[request]]
        if self._asked or not client.service_is_ready():
            self._node.get_logger().warning(
                f'{request.value}: ' + ('one request at a time' if self._asked else
                                        'there is no experience recorder'))
            return
        future = client.call_async(Trigger.Request())
        self._asked = request, client, future, steady_ns()
        future.add_done_callback(lambda future: self._answered(request, future))

    def _give_up(self) -> None:
        """Expect no answer any more of a recorder that may have died."""
        if self._asked is None:
            return
        request, client, future, at = self._asked
        if steady_ns() - at > ANSWER_S * NS:
            self._asked = None
            client.remove_pending_request(future)
            self._node.get_logger().warning(f'{request.value}: {client.srv_name} has not answered '
                                            f'for {ANSWER_S:g} s; has the recorder died?')

    def _answered(self, request: Request, future: Future) -> None:
        self._asked = None
        answer = future.result()
        if answer is None or not answer.success:
            self._node.get_logger().warning(
                f'{request.value} refused: {"no answer" if answer is None else answer.message}')
        then = _THEN.get(request)
        if then is not None and self._bridge[then].service_is_ready():
            self._bridge[then].call_async(Trigger.Request())
