# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
The running graph behind the Gymnasium API, in lockstep or in real time.

Start the graph with ``rl_nodes launch gym``; this environment takes the policy server's place.
ROS is imported when an environment is built, never before.
"""

from typing import Any, TYPE_CHECKING

import gymnasium
import numpy as np
from rl_nodes.backends import BACKENDS, installed_backends
from rl_nodes.core.errors import GraphError
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.core.types import Outcome, RobotState
from rl_nodes.envs.sim_env import refuse_pictures, SimEnv, spaces_of
from rl_nodes.tasks import load_task
from rl_nodes.tasks.curriculum import require_difficulty

if TYPE_CHECKING:
    from rl_nodes.nodes.graph_client import GraphClient

STOP_GRACE_S = 0.5   # a step that the monitor stops while it runs may still come to its end
CLEAR_EVERY_S = 0.1  # how often a stop is asked to be cleared
CLEARED_S = 1.0      # until a cleared one shows; more often would be a press that lasts


class RosEnv(gymnasium.Env):
    """
    Task and running graph behind the Gymnasium API.

    Spaces, observations, rewards and ``info`` are those of ``SimEnv``, ``privileged`` only with a
    simulated robot: the same task computes them. In lockstep the same seed and actions also give
    the same bits. In real time ``step`` answers the state it observed last and returns at the
    next state; when the caller took longer than a period it returns the newest state, with the
    rewards of those passed over added up.
    ``limited`` says that the robot did not execute what was asked for: the safety monitor
    changed, refused or never saw the command.

    Every wait ends: :class:`GraphError` then says which node is missing, or why the safety
    monitor has stopped the robot. After an error, ``reset`` starts anew, also with a graph that
    was restarted. Only one client may be in a ROS domain and namespace.

    :param robot: name in ``config/robots`` or path to a YAML or URDF file, as the graph was given.
    :param task: name in ``config/tasks`` or path to a YAML file, as the graph was given.
    :param namespace: of the graph.
    :param stepping: of the graph: ``lockstep`` or ``realtime``.
    :param step_timeout_s: how long a step may wait beyond one control period.
    :param reset_timeout_s: how long a reset may wait for each thing it needs, also for somebody
        to clear a stop; on a robot it includes the way home.
    :param arm: clear a stop of the safety monitor in ``reset``, and in ``step`` where it came from
        this program's own silence; simulation only. Otherwise a person clears it.
    :raises GraphError: another client is there, or ROS is set up wrongly.
    """

    metadata = {'render_modes': []}

    def __init__(self, robot: str, task: str, namespace: str = '', stepping: str = 'lockstep',
                 step_timeout_s: float = 5.0, reset_timeout_s: float = 30.0,
                 arm: bool = False) -> None:
        if stepping not in ('lockstep', 'realtime'):
            raise GraphError(f'stepping {stepping!r}; allowed: lockstep, realtime')
        for name, value in (('step', step_timeout_s), ('reset', reset_timeout_s)):
            if not 0 < value < float('inf'):
                raise GraphError(f'{name}_timeout_s = {value}; expected a positive number')
        self.task = load_task(robot, task)
        self.contract = self.task.contract
        refuse_pictures(self.contract, 'RosEnv')
        self.metadata = {**self.metadata, 'render_fps': round(self.contract.rate_hz)}
        self.observation_space, self.action_space = spaces_of(self.contract)
        self._observer = self.task.observer()
        self._lockstep = stepping == 'lockstep'
        self._expected = {'robot': robot, 'task': task, 'stepping': stepping}
        self._step_timeout_s = step_timeout_s + self.task.period_ns / NS
        self._reset_timeout_s = reset_timeout_s
        self._arm = arm
        self._varies = self._tells_truth = False
        self._difficulty = 1.0
        self._difficulty_set: float | None = None  # what this graph has been told
        self._connected = False
        self._state: RobotState | None = None
        self._client: GraphClient | None = None
        from rl_nodes.nodes.graph_client import GraphClient as Client
        self._client = Client(self.task, namespace, f'RosEnv {robot} {task}')

    @classmethod
    def simulated(cls, robot: str, task: str, render_mode: str | None = None,
                  **of_the_graph: Any) -> SimEnv:
        """
        Return the same task on a simulated robot in this process.

        :param robot: as of the class, and likewise the task.
        :param render_mode: as Gymnasium has it.
        :param of_the_graph: what else the class is made with; means nothing there.
        """
        return SimEnv(robot, task, (installed_backends() or tuple(BACKENDS))[0], render_mode)

    @property
    def _graph(self) -> 'GraphClient':
        if self._client is None:
            raise gymnasium.error.ClosedEnvironmentError('this environment was closed')
        return self._client

    @property
    def difficulty(self) -> float:
        """Return the difficulty of the episodes to come, 0 to 1; it may be set at any time."""
        return self._difficulty

    @difficulty.setter
    def difficulty(self, value: float) -> None:
        self._difficulty = require_difficulty(value)

    # --- reset --------------------------------------------------------------------------------

    def reset(self, *, seed: int | None = None,
              options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; a seed makes it and all that follow reproducible."""
        super().reset(seed=seed)
        graph, timeout_s = self._graph, self._reset_timeout_s
        self._state, self._observer = None, self.task.observer()
        graph.drain()
        try:
            if not self._connected:
                self._connect(timeout_s)
            graph.require_alone()
            if seed is not None:
                graph.seed(int(seed), timeout_s)
            if self.task.variation_names and self._difficulty != self._difficulty_set:
                graph.difficulty(self._difficulty, timeout_s)
                self._difficulty_set = self._difficulty
            if graph.stopped:
                self._clear_stop(timeout_s, None)
            graph.hold(not self._lockstep)  # in real time silence would stop the robot
            graph.drain()
            graph.forget()
            number = graph.reset(timeout_s)
            graph.hold(not self._lockstep, number)
            self._state = self._first_state(number, timeout_s)
        except GraphError:
            self._connected = False
            raise
        finally:
            graph.hold(False)
        self._rewarded(self._state)
        drawn = graph.variations.get(self._state.episode)
        return (self._observer.observe(self._state, graph.goal_of(self._state)),
                ({} if drawn is None else {'randomisation': drawn}) | self._truth(self._state))

    def _connect(self, timeout_s: float) -> None:
        """Require that the graph is complete and does what this environment was made for."""
        theirs = self._graph.bridge_parameters((*self._expected, 'backend'), timeout_s)
        if theirs['stepping'] != self._expected['stepping']:
            raise GraphError(f'the graph runs with stepping:={theirs["stepping"]}, this '
                             f'environment expects {self._expected["stepping"]!r}')
        self.contract.require(
            load_task(theirs['robot'], theirs['task']).contract, 'this environment',
            f'graph with robot:={theirs["robot"]} task:={theirs["task"]}')
        if self._arm and theirs['backend'] not in BACKENDS:
            raise GraphError(f'arm=True is for simulation ({", ".join(BACKENDS)}); with '
                             f'backend:={theirs["backend"]} a person clears the stop')
        self._graph.require_matched(timeout_s)
        simulated = theirs['backend'] in BACKENDS
        self._varies = simulated and bool(self.task.variation_names)
        self._tells_truth = simulated and self.contract.privileged is not None
        self._difficulty_set = None
        self._connected = True

    def _first_state(self, number: int, timeout_s: float) -> RobotState:
        """Wait for the first state of an episode that has its goal and its reward."""
        from rl_nodes.nodes.graph_client import episode_number

        graph = self._graph
        seen: list[RobotState] = []

        def found() -> bool:
            seen[:] = [state for state in graph.states.values()
                       if episode_number(state) == number]
            return any(map(complete, seen))

        def complete(state: RobotState) -> bool:
            return (graph.goal_of(state) is not None
                    and (state.stamp_ns, state.episode) in graph.rewards
                    and (not self._tells_truth or state.stamp_ns in graph.privileged)
                    and (not self._varies or state.episode in graph.variations))
        if not graph.until(found, timeout_s):
            what = ('state from robot_bridge' if not seen else
                    'goal from robot_bridge' if graph.goal_of(seen[-1]) is None else
                    'randomisation from robot_bridge'
                    if self._varies and seen[-1].episode not in graph.variations else
                    'privileged state from robot_bridge'
                    if self._tells_truth and seen[-1].stamp_ns not in graph.privileged else
                    'reward from reward_computer')
            raise GraphError(f'no {what} for episode {number} within {timeout_s:g} s')
        return next(filter(complete, seen))

    def _clear_stop(self, timeout_s: float, command: np.ndarray | None) -> None:
        """
        Show healthy commands until motion is allowed, by ``arm`` or by somebody else.

        :param command: in lockstep, what to ask for in the present state, shape (A,); None to
            stay there.
        """
        graph = self._graph
        deadline = steady_ns() + round(timeout_s * NS)
        graph.hold(command is None)
        refusal, wait_s = 'somebody has to call safety_monitor/clear_stop', CLEAR_EVERY_S
        while graph.stopped:
            left_s = (deadline - steady_ns()) / NS
            if left_s <= 0:
                raise GraphError(f'the safety monitor has stopped the robot ({graph.stopped}) and '
                                 f'motion was not allowed within {timeout_s:g} s: {refusal}')
            state = self._state if command is not None else graph.newest
            if state is not None and self._lockstep:
                graph.answer(state, self.task.hold_command(state) if command is None else command)
            if graph.until(lambda: not graph.stopped, min(left_s, wait_s)):
                break
            if self._arm:
                why = graph.clear_stop(left_s)
                refusal, wait_s = why or refusal, CLEAR_EVERY_S if why else CLEARED_S
        graph.hold(False)

    # --- step ---------------------------------------------------------------------------------

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Answer the state observed last, wait for the next one and its reward."""
        graph, before = self._graph, self._state
        if before is None:
            raise gymnasium.error.ResetNeeded('call reset() before step()')
        wanted = self.task.command(before, np.asarray(action))
        graph.drain()
        graph.forget_before(before.stamp_ns)
        try:
            fresh = not graph.stopped
            if not fresh:
                self._clear_own_silence(wanted)
            if fresh or self._lockstep:  # in real time it answers what is long past
                graph.answer(before, wanted)
                self._observer.acted(before, wanted)
            after = self._advance(before)
            outcome = self._outcome(before, after)
        except GraphError:
            self._state, self._connected = None, False
            raise
        executed = graph.executed.get(before.stamp_ns)
        limited = executed is None or not np.array_equal(executed.value, wanted)
        observation = self._observe(before, after)
        self._state = None if outcome.terminated or outcome.truncated else after
        info = {'success': outcome.success, 'limited': limited, **outcome.terms,
                **self._truth(after)}
        return observation, outcome.total, outcome.terminated, outcome.truncated, info

    def _truth(self, state: RobotState) -> dict[str, np.ndarray]:
        return {'privileged': self._graph.privileged[state.stamp_ns]} if self._tells_truth else {}

    def _clear_own_silence(self, wanted: np.ndarray) -> None:
        """Go on after a stop that came only because this program took its time."""
        graph = self._graph
        if not self._arm or graph.safety.get('check') != 'command_silence':
            hint = '' if self._arm else '; arm=True clears it in simulation'
            raise GraphError(f'the safety monitor has stopped the robot ({graph.stopped})'
                             f'{hint}. Call reset() to go on')
        self._clear_stop(self._reset_timeout_s, wanted if self._lockstep else None)

    def _advance(self, before: RobotState) -> RobotState:
        """Return the state to go on from once all is here; ``before`` if none follows it."""
        from rl_nodes.nodes.graph_client import episode_number

        graph = self._graph
        begun = steady_ns()
        ahead = self._followers(before)
        target = ahead[-1] if ahead else None  # only in real time, after a slow caller

        def arrived() -> bool:
            nonlocal target
            if target is None:
                ahead = self._followers(before)
                target = ahead[0] if ahead else None
            if target is None:
                newest = graph.newest
                if newest is not None and newest.episode != before.episode:
                    if 0 < episode_number(newest) <= episode_number(before):
                        raise GraphError('the graph was restarted; call reset() to go on')
                    target = before  # the episode was ended from outside
                elif graph.stopped and steady_ns() - begun > STOP_GRACE_S * NS:
                    raise GraphError('the safety monitor has stopped the robot '
                                     f'({graph.stopped}). Call reset() to go on')
                return target is not None
            if self._tells_truth and target.stamp_ns not in graph.privileged:
                return False
            return (not self._lockstep or before.stamp_ns in graph.executed) and all(
                (state.stamp_ns, state.episode) in graph.rewards
                for state in self._followers(before) if state.stamp_ns <= target.stamp_ns)
        if not graph.until(arrived, self._step_timeout_s):
            raise GraphError(self._missing(before, target))
        return target

    def _followers(self, before: RobotState) -> list[RobotState]:
        """Return the later states of the same episode, in order."""
        return [state for state in self._graph.states.values()
                if state.stamp_ns > before.stamp_ns and state.episode == before.episode]

    def _observe(self, before: RobotState, after: RobotState) -> np.ndarray:
        """Return the observation of a state, having seen those that were passed over."""
        for state in sorted(self._followers(before), key=lambda state: state.stamp_ns):
            if state.stamp_ns < after.stamp_ns:
                self._rewarded(state)
                self._observer.observe(state, self._graph.goal_of(state))
        self._rewarded(after)
        return self._observer.observe(after, self._graph.goal_of(after))

    def _rewarded(self, until: RobotState) -> None:
        """Let the observer know the rewards up to that of a state, where it needs them."""
        if not self._observer.needs_rewards:
            return
        for (stamp, episode), outcome in self._graph.rewards.items():
            if episode == until.episode and stamp <= until.stamp_ns:
                self._observer.rewarded(stamp, episode, outcome.total)

    def _missing(self, before: RobotState, target: RobotState | None) -> str:
        """Return what a step has waited for in vain."""
        within = f'within {self._step_timeout_s:g} s'
        if target is not None and self._tells_truth \
                and target.stamp_ns not in self._graph.privileged:
            return (f'no privileged state {target.stamp_ns} from robot_bridge {within}; is it '
                    'running?')
        if target is not None and (not self._lockstep
                                   or before.stamp_ns in self._graph.executed):
            return (f'no reward for state {target.stamp_ns} from reward_computer {within}; is it '
                    'running?')
        if self._lockstep and before.stamp_ns not in self._graph.executed:
            safety = self._graph.safety
            return (f'safety_monitor let no command for state {before.stamp_ns} pass {within}; it '
                    f'says {safety.get("mode", "nothing")} {safety.get("reason", "")}'.rstrip()
                    + '; is it running?')
        return f'no state after {before.stamp_ns} from robot_bridge {within}; is it running?'

    def _outcome(self, before: RobotState, after: RobotState) -> Outcome:
        """Return what led from one state to the other, the sum where several lie between."""
        if after is before:
            first = self.task.first_outcome()
            return Outcome(0.0, first.terms, False, True, False)
        outcomes = [self._graph.rewards[state.stamp_ns, state.episode]
                    for state in self._followers(before) if state.stamp_ns <= after.stamp_ns]
        if len(outcomes) == 1:
            return outcomes[0]
        last = outcomes[-1]
        return Outcome(sum(outcome.total for outcome in outcomes), last.terms,
                       any(outcome.terminated for outcome in outcomes),
                       any(outcome.truncated for outcome in outcomes), last.success)

    def close(self) -> None:
        """Leave the graph; may be called again."""
        client, self._client, self._state = self._client, None, None
        if client is not None:
            client.close()
