# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Evaluator: watches a running graph, scores its episodes and ends it after a number of them.

It only listens. Each finished episode gets a line; at the end (also on Ctrl-C) it prints a table
and writes the same figures to a JSON file.

Parameters: robot, task, stepping, autostart, episodes, report, start_timeout_s, robots (see
below).
Subscribes (once per robot, but for policy/status):
  reward (sensor_msgs/JointState, STREAM); safety/state, robot/status, policy/status
  (diagnostic_msgs/DiagnosticArray, LATCHED).
Publishes: /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Exit status: 0 when the episodes are complete; 1 when the robot was stopped or nothing moves.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
import json
from pathlib import Path
from typing import Annotated, Any

from diagnostic_msgs.msg import DiagnosticArray
from msgspec import Meta
import numpy as np
from rl_nodes.core.errors import ConfigError, SpecError
from rl_nodes.core.fleet import robot_namespaces, topic_in
from rl_nodes.core.timing import NS, steady_ns
from rl_nodes.core.types import EpisodeId
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.safety.supervisor import LIFECYCLE
from sensor_msgs.msg import JointState

SEVERITY = ('OK', 'LIMITING', 'HOLD', 'STOPPED', 'silent')  # modes of the safety monitor


class EvaluatorParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the evaluator.

    :param episodes: how many to score before the graph ends; 0 for no end
    :param report: JSON file to write; empty for none
    :param start_timeout_s: how long to wait for a reward before giving up
    :param robots: how many are scored together; beyond one each has its namespace robot_<number>
    """

    episodes: Annotated[int, Meta(ge=0)] = 0
    report: str = ''
    start_timeout_s: Annotated[float, Meta(gt=0)] = 20.0
    robots: Annotated[int, Meta(ge=1)] = 1


@dataclass
class _Robot:
    """
    What is known of one robot.

    :param namespace: relative to the evaluator's.
    :param left: how many more of its episodes are scored; negative for all. Each robot has its
        share: whoever failed sooner would otherwise count more often.
    :param episode: the one that runs; empty before the first.
    :param earned: its return so far.
    :param discard: it will not be scored.
    :param status: newest values of its status topics.
    """

    namespace: str
    left: int
    episode: str = ''
    earned: float = 0.0
    discard: bool = True
    status: dict[str, dict[str, str]] = field(default_factory=dict)


class Evaluator(TaskNode[EvaluatorParameters]):
    """See the module's text."""

    parameters_type = EvaluatorParameters

    def configure(self) -> None:
        """Check that the report can be written, then build the entities."""
        super().configure()
        if self.parameters.report:
            try:
                Path(self.parameters.report).parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f'report {self.parameters.report}: {error}') from None
        self._episodes: list[dict[str, Any]] = []
        wanted, robots = self.parameters.episodes, self.parameters.robots
        self._robots = [
            _Robot(name, wanted // robots + (index < wanted % robots) if wanted else -1)
            for index, name in enumerate(robot_namespaces(robots))]
        self._policy: dict[str, str] = {}
        self._heard_at = steady_ns()
        self._done = False
        for robot in self._robots:
            self.subscribe(JointState, topic_in(robot.namespace, 'reward'),
                           partial(self._on_reward, robot), qos.STREAM)
            for topic in ('safety/state', 'robot/status'):
                self.subscribe(DiagnosticArray, topic_in(robot.namespace, topic),
                               partial(self._on_status, robot.status, topic), qos.LATCHED)
        self.subscribe(DiagnosticArray, 'policy/status', self._on_policy, qos.LATCHED)
        self.every(0.5, self._watch)

    def deactivate(self) -> None:
        """Print what there is when the user ends the graph early."""
        if not self._done:
            self._conclude()

    def _on_status(self, status: dict[str, dict[str, str]], topic: str,
                   msg: DiagnosticArray) -> None:
        status[topic] = conversions.status_values(msg)

    def _on_policy(self, msg: DiagnosticArray) -> None:
        self._policy = conversions.status_values(msg)

    def _on_reward(self, robot: _Robot, msg: JointState) -> None:
        try:
            stamp, episode, outcome = conversions.msg_to_outcome(msg)
        except SpecError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)
            return
        if self._done or not robot.left:
            return
        self._heard_at = steady_ns()
        if episode != robot.episode:
            # An episode joined midway, or begun before the robot may move, does not count.
            stopped = robot.status.get('safety/state', {}).get('mode', 'STOPPED') == 'STOPPED'
            robot.discard = stopped or stamp != EpisodeId.parse(episode).start_ns
            robot.episode, robot.earned = episode, 0.0
        robot.earned += outcome.total
        if not (outcome.terminated or outcome.truncated) or robot.discard:
            return
        start_ns = EpisodeId.parse(episode).start_ns
        row = {'robot': robot.namespace} if robot.namespace else {}
        row |= {'episode': EpisodeId.parse(episode).number, 'success': outcome.success,
               'return': round(robot.earned, 3), 'seconds': round((stamp - start_ns) / NS, 2),
               'final': {name: round(value, 5) for name, value in outcome.terms.items()}}
        self._episodes.append(row)
        count = f'{len(self._episodes)}/{self.parameters.episodes or "-"}'
        name = self.task.term_names[0]
        self.get_logger().info(
            f'episode {count}: {"success" if outcome.success else "FAILURE"}, '
            f'return {robot.earned:.2f}, {row["seconds"]:.2f} s, final {name} '
            f'{row["final"][name]:.4f}')
        robot.discard = True
        robot.left -= 1
        if len(self._episodes) == self.parameters.episodes:
            self._conclude()
            self.exit(0)

    def _watch(self) -> None:
        """Give up when nothing moves, and say why."""
        states = {robot.namespace: robot.status.get('safety/state', {}) for robot in self._robots}
        stopped = next(((name, state) for name, state in states.items()
                        if state.get('mode') == 'STOPPED'
                        and state.get('check') not in LIFECYCLE), None)
        silent_s = (steady_ns() - self._heard_at) / NS
        if self._done or (self._robots[0].episode and not self.parameters.episodes):
            return  # without an end, a robot that was lost may come back
        if silent_s >= self.parameters.start_timeout_s:
            self.get_logger().error(
                f'no reward for {self.parameters.start_timeout_s:.0f} s: is every node up? '
                'safety monitor: ' + '; '.join(
                    f'{name} {state.get("reason", "silent")}'.strip()
                    for name, state in states.items()))
        elif stopped is not None and self.parameters.episodes:
            name, state = stopped
            self.get_logger().error(
                f'{name or "the robot"} was stopped by {state.get("check")}: '
                f'{state.get("reason")}. The evaluation ends here.')
        else:
            return
        self._conclude()
        self.exit(1)

    def _conclude(self) -> None:
        """Print the table and write the report, once."""
        self._done = True
        report = self._report()
        for line in _table(report):
            self.get_logger().info(line)
        if self.parameters.report:
            path = Path(self.parameters.report)
            path.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
            self.get_logger().info(f'report: {path}')

    def _report(self) -> dict[str, Any]:
        monitors = [robot.status.get('safety/state', {}) for robot in self._robots]
        bridges = [robot.status.get('robot/status', {}) for robot in self._robots]
        worst = max(monitors, key=lambda state: SEVERITY.index(state.get('mode', 'silent')))
        report: dict[str, Any] = {
            'robot': self.task.robot.name, 'task': self.task.name,
            'policy': self._policy.get('policy', ''), 'stepping': self.parameters.stepping,
            'rate_hz': self.task.contract.rate_hz, 'episodes': len(self._episodes),
            'success_rate': None, 'return_mean': None, 'final': {},
            'latency_ms': {
                'state_to_command': _latencies(bridges, 'latency'),
                'policy_server': _latencies([self._policy], 'total'),
                'inference': _latencies([self._policy], 'inference')},
            'safety': {'mode': worst.get('mode', 'silent'), 'check': worst.get('check', ''),
                       **_sums(monitors, lambda key: key.split('/')[0] in (
                           'pass', 'clamp', 'hold', 'stop'))},
            'bridge': _sums(bridges, ('steps', 'held', 'commands_refused').__contains__),
            'per_episode': self._episodes}
        if self._episodes:
            report['success_rate'] = float(np.mean([row['success'] for row in self._episodes]))
            report['return_mean'] = round(float(np.mean(
                [row['return'] for row in self._episodes])), 3)
            for name in self._episodes[0]['final']:
                values = [row['final'][name] for row in self._episodes]
                report['final'][name] = {
                    'median': round(float(np.median(values)), 5),
                    'p90': round(float(np.percentile(values, 90)), 5),
                    'max': round(float(np.max(values)), 5)}
        return report

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return how many episodes are scored and how many succeeded."""
        return OK, 'running', {
            'episodes': len(self._episodes),
            'successes': sum(row['success'] for row in self._episodes)}


def _latencies(statuses: list[dict[str, str]], name: str) -> dict[str, float]:
    """Return p50, p99 and max [ms], each of whoever was slowest."""
    found = {key: [float(values[f'{name}_{key}_ms']) for values in statuses
                   if f'{name}_{key}_ms' in values] for key in ('p50', 'p99', 'max')}
    return {key: max(values) for key, values in found.items() if values}


def _sums(statuses: list[dict[str, str]], wanted: Callable[[str], bool]) -> dict[str, int]:
    """Return the sum of each wanted count over all robots."""
    total: Counter[str] = Counter()
    for values in statuses:
        total.update({key: int(value) for key, value in values.items() if wanted(key)})
    return dict(total)


def _table(report: dict[str, Any]) -> list[str]:
    """Return the report as lines for people."""
    if not report['episodes']:
        return ['no episode was completed']
    rows = [('policy', report['policy']),
            ('success', f'{report["success_rate"]:.0%} of {report["episodes"]} episodes'),
            ('return', f'{report["return_mean"]:.2f} (mean, undiscounted)')]
    name, final = next(iter(report['final'].items()))
    rows.append((f'final {name}', f'median {final["median"]:.4f}, p90 {final["p90"]:.4f}, '
                 f'max {final["max"]:.4f}'))
    rows += [(f'latency {name.replace("_", " ")}',
              ', '.join(f'{key} {value:.2f} ms' for key, value in v.items()) or 'not measured')
             for name, v in report['latency_ms'].items()]
    safety = report['safety']
    rows += [('commands passed', str(safety.get('pass', 0))),
             ('interventions', f'{safety.get("clamp", 0)} clamped, {safety.get("hold", 0)} '
              f'refused, {safety.get("stop", 0)} stops'),
             ('safety monitor', safety['mode'])]
    width = max(len(name) for name, _ in rows)
    return ['-' * 72, *(f'{name:<{width}}  {value}' for name, value in rows), '-' * 72]


def main() -> None:
    """Run the node."""
    run_main(Evaluator, 'evaluator')


if __name__ == '__main__':
    main()
