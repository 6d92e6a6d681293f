# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The base of every node, and the main function of every node process.

Guards what rclpy for Jazzy leaves open (ros2/rclpy#1209): a transition that is not valid now, a
callback that returns None and an exception in a transition must not end the process in silence.
Exit status: 0 after a normal end, 1 after a fault, 2 where the node refused to start.
"""

from collections.abc import Callable
import gc
import os
import signal
import sys
import traceback
from typing import Any, ClassVar, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
import rclpy
from rclpy._rclpy_pybind11 import RCLError
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer
from rl_nodes.core import ros_environment
from rl_nodes.core.errors import RlNodesError, SpecError
from rl_nodes.core.locks import RunLock
from rl_nodes.core.returns import target_of
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.nodes import conversions, joint_state, qos
from rl_nodes.nodes.graph_watch import GraphWatch, type_name, UNNAMED
from rl_nodes.nodes.parameters import declare, NodeParameters
from rl_nodes.nodes.spin import NodeSpinner
from rl_nodes.tasks import load_task
from sensor_msgs.msg import JointState

P = TypeVar('P', bound=NodeParameters)
SUCCESS, FAILURE, ERROR = (TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE,
                           TransitionCallbackReturn.ERROR)
OK, WARN, FAULT = 0, 1, 2  # levels of diagnostic_msgs/DiagnosticStatus

DRAIN_S = 1.0  # of the 3 s within which a graph ends
WAKE_S = 0.1  # how often the executor looks at the stop flag; a signal ends the node within this


class ManagedNode(LifecycleNode, Generic[P]):
    """
    A life-cycle node that builds everything in :meth:`configure` and undoes it on the way back.

    Subclasses set ``parameters_type`` and implement :meth:`configure` (build the pure object,
    then entities), and where needed :meth:`activate`, :meth:`deactivate`, :meth:`release` and
    :meth:`health`. Entities made with :meth:`publish_on`, :meth:`subscribe`, :meth:`serve` and
    :meth:`every` are destroyed for them. Callbacks are ignored while the node is not active.

    Publishes ``/diagnostics`` (diagnostic_msgs/DiagnosticArray, 1 Hz) and, where ``status_topic``
    is set, the same on that topic, with what is wrong in the graph around it. One that ``drains``
    takes what has come already before it ends.

    :ivar asked_ns: when the request that is being answered was sent, by the clock of its sender
        [ns]; None where that is unknown.
    """

    parameters_type: ClassVar[type[NodeParameters]] = NodeParameters
    status_topic: ClassVar[str] = ''
    drains: ClassVar[bool] = False  # takes what has arrived before it ends

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.exit_code: int | None = None
        self.refusal = ''
        self.asked_ns: int | None = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._entities: list[tuple[Callable[[Any], Any], Any]] = []
        self._active = False
        self._health: list[Publisher] = []
        self._around, self._complaint = GraphWatch(self), ''
        self.parameters: P = declare(self, self.parameters_type)

    # --- what a node implements -----------------------------------------------------------------

    def configure(self) -> None:
        """Build everything; RlNodesError refuses, and what exists is released again."""

    def activate(self) -> None:
        """Begin to act."""

    def deactivate(self) -> None:
        """Stop acting; the robot must be safe afterwards."""

    def settle(self) -> None:
        """Do what was put off while messages were taken; called after every burst of them."""

    def release(self) -> None:
        """Let go of what is not a ROS entity; called on cleanup, shutdown and failure."""

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return (OK, WARN or FAULT; one sentence; values) for diagnostics."""
        return OK, 'running', {}

    # --- helpers --------------------------------------------------------------------------------

    def publish_on(self, kind: type, topic: str, profile: QoSProfile) -> Publisher:
        """Return a publisher that lives until cleanup."""
        publisher = self.create_publisher(kind, topic, profile)
        self._entities.append((self.destroy_publisher, publisher))
        return publisher

    def subscribe(self, kind: type, topic: str, callback: Callable[[Any], None],
                  profile: QoSProfile, raw: bool = False,
                  tap: Callable[[bytes], None] | None = None,
                  numbers: Callable[[int | None], None] | None = None) -> None:
        """
        Subscribe until cleanup; the callback runs only while the node is active.

        A JointState comes as a :class:`JointStateView`, which has the same fields.

        :param tap: gets the bytes of each JointState before the callback gets the view.
        :param numbers: gets the number of each message, as its publisher counts them, before the
            callback gets the message; None where the middleware gives none.
        """
        if kind is JointState and not raw:
            callback, raw = self._reading(callback, topic, tap), True
        heard = self._guarded(callback) if numbers is None else self._numbered(callback, numbers)
        subscription = self.create_subscription(kind, topic, heard, profile, raw=raw)
        self._entities.append((self.destroy_subscription, subscription))

    def every(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call back at a steady rate while the node is active; return the timer."""
        timer = self.create_timer(seconds, self._guarded(callback), clock=self._steady)
        self._entities.append((self.destroy_timer, timer))
        return timer

    def wake(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Return what lets the node call back soon, until cleanup; it may be called anywhere."""
        guard = self.create_guard_condition(self._guarded(callback))
        self._entities.append((self.destroy_guard_condition, guard))
        return guard.trigger

    def serve(self, kind: type, name: str, callback: Callable[[Any], tuple[bool, str]],
              always: bool = False) -> None:
        """
        Offer a std_srvs service ``~/name`` until cleanup.

        :param callback: gets the request, returns (success, message).
        :param always: also while the node is not active.
        """
        def answer(request: Any, response: Any) -> Any:
            if not (self._active or always):
                response.success, response.message = False, f'{self.get_name()} is not active'
                return response
            try:
                response.success, response.message = callback(request)
            except Exception as error:
                response.success, response.message = False, f'fault: {error}'
                self.fault(traceback.format_exc())
            return response
        service = self.create_service(kind, f'~/{name}', answer)
        self._entities.append((self.destroy_service, service))

    def publishers_on(self, kind: type, topic: str) -> list[str]:
        """
        Return the full names of the nodes that publish a type on a topic, each once, sorted.

        One whose name has not been discovered yet, which takes milliseconds, is left out.
        """
        return sorted({f'{one.node_namespace.rstrip("/")}/{one.node_name}'
                       for one in self.get_publishers_info_by_topic(topic)
                       if one.topic_type == type_name(kind) and one.node_name != UNNAMED})

    def client_of(self, kind: type, name: str) -> Client:
        """Return a client of another node's service that lives until cleanup."""
        client = self.create_client(kind, name)
        self._entities.append((self.destroy_client, client))
        return client

    def on_parameters_set(self, callback: Callable[[list[Parameter]], None]) -> None:
        """Call back until cleanup after parameters were accepted; see ``settable``."""
        def guarded(changed: list[Parameter]) -> None:
            try:
                callback(changed)
            except Exception:
                self.fault(traceback.format_exc())
        self.add_post_set_parameters_callback(guarded)
        self._entities.append((self.remove_post_set_parameters_callback, guarded))

    def judge_parameters(self, judge: Callable[[list[Parameter]], str]) -> None:
        """
        Ask until cleanup before parameters are accepted; see ``settable``.

        :param judge: returns why the changes are refused, or ``''``.
        """
        def guarded(changed: list[Parameter]) -> SetParametersResult:
            try:
                why = judge(changed)
            except Exception as error:  # it would end the node
                self.get_logger().error(traceback.format_exc())
                why = repr(error)
            return SetParametersResult(successful=not why, reason=why)
        self.add_on_set_parameters_callback(guarded)
        self._entities.append((self.remove_on_set_parameters_callback, guarded))

    def fault(self, text: str) -> None:
        """Take note that the node cannot go on: log why and end the process with status 1."""
        self.get_logger().fatal(text)
        self.exit(1)

    def exit(self, code: int) -> None:
        """End the process soon; the first code counts."""
        if self.exit_code is None:
            self.exit_code = code

    @property
    def active(self) -> bool:
        """Return whether the node may act."""
        return self._active

    def _reading(self, callback: Callable[[Any], None], topic: str,
                 tap: Callable[[bytes], None] | None) -> Callable[[bytes], None]:
        """Let a callback have the JointState in some bytes; what is none is dropped."""
        def reading(data: bytes) -> None:
            if tap is not None:
                tap(data)
            try:
                msg = joint_state.decode(data)
            except SpecError as error:
                self.get_logger().warning(f'dropped on {topic}: {error}',
                                          throttle_duration_sec=1.0)
                return
            callback(msg)
        return reading

    def _numbered(self, callback: Callable[[Any], None],
                  numbers: Callable[[int | None], None]) -> Callable[[Any, Any], None]:
        """Let the numbers of messages be known; rclpy gives two arguments to who takes two."""
        def both(message: Any, info: dict[str, Any]) -> None:
            numbers(info['publication_sequence_number'])
            callback(message)
        guarded = self._guarded(both)
        return lambda message, info: guarded(message, info)

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """An exception in a callback would end spin() with a bare traceback; make it a fault."""
        def guarded(*arguments: Any) -> None:
            if not self._active:
                return
            try:
                callback(*arguments)
            except Exception:
                self.fault(traceback.format_exc())
        return guarded

    # --- transitions ----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build; refuse with a reason and nothing left behind."""
        self.refusal = ''
        try:
            self._health = [self.publish_on(DiagnosticArray, topic, qos.LATCHED)
                            for topic in ('/diagnostics', self.status_topic) if topic]
            self.configure()
            self.every(1.0, self._each_second)
        except RlNodesError as error:
            self.refusal = str(error)
            self.get_logger().error(self.refusal)
            self._destroy()
            return FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to act."""
        self._active = True
        self.activate()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting."""
        self._active = False
        self.deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Destroy what configure built."""
        self._destroy()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop acting and destroy everything, from any state."""
        if self._active:
            self._active = False
            self.deactivate()
        self._destroy()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after a failed transition."""
        self._active = False
        self._destroy()
        return SUCCESS

    def publish_health(self) -> DiagnosticArray:
        """Publish diagnostics now and return them."""
        level, message, values = self.health()
        if self._complaint:
            level, message = max(level, WARN), f'{message}; {self._complaint}'
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [conversions.status(self.get_fully_qualified_name(), level, message,
                                           values)]
        for publisher in self._health:
            publisher.publish(array)
        return array

    def _ask(self, sent_ns: int | None) -> None:
        self.asked_ns = sent_ns

    def _each_second(self) -> None:
        self._complaint = self._around.look()
        self.publish_health()

    def _destroy(self) -> None:
        self.release()
        self._health = []
        while self._entities:
            destroy, entity = self._entities.pop()
            destroy(entity)

    # rclpy's own versions let RCLError, None and exceptions through; a test pins these names.

    def _LifecycleNodeMixin__change_state(  # noqa: N802
            self, transition_id: int) -> TransitionCallbackReturn:
        try:
            return super()._LifecycleNodeMixin__change_state(transition_id)
        except RCLError as error:
            rclpy_state = self._state_machine.current_state[1]
            self.get_logger().error(f'transition {transition_id} refused in state '
                                    f'{rclpy_state}: {str(error).splitlines()[0]}')
            return ERROR

    def _LifecycleNodeMixin__execute_callback(  # noqa: N802
            self, state_id: int, previous: LifecycleState) -> TransitionCallbackReturn:
        callback = self._callbacks.get(state_id)
        if callback is None:
            return SUCCESS
        try:
            result = callback(previous)
        except Exception:
            self.get_logger().error(f'transition failed:\n{traceback.format_exc()}')
            return ERROR
        if isinstance(result, TransitionCallbackReturn):
            return result
        self.get_logger().error(f'transition callback returned {result!r}; taken as an error')
        return ERROR


class TaskNode(ManagedNode[P]):
    """A node that works on a robot doing a task; ``self.task`` is there once configured."""

    def configure(self) -> None:
        """Load the task; subclasses call this first."""
        self.task = load_task(self.parameters.robot, self.parameters.task)
        if self.parameters.target_return:
            self.task.target_return = target_of(self.parameters.target_return, self.task.contract)
        self.lockstep = self.parameters.stepping == 'lockstep'
        if not self.lockstep and self.parameters.real_time_factor:
            # Stamps stay on the wall clock, so the states of a faster robot lie closer together.
            self.task.period_ns = round(self.task.period_ns / self.parameters.real_time_factor)


def run(node_type: type[ManagedNode], name: str, args: list[str] | None = None) -> int:
    """
    Run one node as this process until a signal, its own end or a fault.

    :param name: default name of the node.
    :return: exit status, see the module's text.
    """
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: stopping.append(received))
    node = lock = spinner = None
    code = 0
    try:
        domain = ros_environment.prepare(os.environ)
        # Own handlers: with rclpy's the context is gone before anything can be put in order.
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = node_type(name)
        lock = RunLock(node.get_name(), domain, node.get_namespace(), f'node {name}').acquire()
        if node.parameters.autostart:
            _autostart(node)
        gc.collect()
        gc.freeze()  # what is there now stays: later collections need not look at it
        spinner = NodeSpinner(node, node._guarded(node.settle), node._ask)
        while not stopping and node.exit_code is None:
            spinner.once(WAKE_S)
        deadline_ns = steady_ns() + round(DRAIN_S * NS)
        while node.drains and steady_ns() < deadline_ns and spinner.once(WAKE_S):
            pass
        code = node.exit_code or 0
    except RlNodesError as error:
        print(f'error: {error}', file=sys.stderr)
        code = 2
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # an impatient second Ctrl-C waits
            signal.signal(number, signal.SIG_IGN)
        if spinner is not None:
            spinner.shutdown()
        if node is not None:
            code = _end(node) or code
            node.destroy_node()
        rclpy.try_shutdown()
        if lock is not None:
            lock.release()
    return code


def _autostart(node: ManagedNode) -> None:
    """Configure and activate; what refuses sets the exit code."""
    if node.trigger_configure() != SUCCESS:
        node.exit(2 if node.refusal else 1)
    elif node.trigger_activate() != SUCCESS:
        node.exit(1)


def _end(node: ManagedNode) -> int:
    """Shut a node down from whatever state it is in; return 1 if that failed."""
    try:
        node.trigger_shutdown()
    except RCLError:
        pass  # finalized already
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def main(node_type: type[ManagedNode], name: str) -> None:
    """Run a node as the whole program."""
    code = run(node_type, name, sys.argv)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # all is closed; torch alone takes a second to be taken apart object by object

