# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Trainer: learns from the experience that the graph sends, while the robot goes on.

Learning runs in a thread of its own, in real time at low priority; this node only queues what
arrives and hands out policies. When it dies, control goes on with the last policy; where memory
runs out, the kernel ends it before others. It ends with exit status 0 once the target or a limit
is reached.

Parameters: robot, task, stepping, autostart, algorithm, run_dir, seed, time_budget_s,
target_success, demonstrations, prefill, film, resume, simulator, robots (see below).
Subscribes:
  experience (std_msgs/Float32MultiArray, BATCH), once per robot: transitions by labelled columns.
Publishes:
  policy/update (std_msgs/UInt8MultiArray, LATCHED): a policy bundle, as often as the staleness
  bound asks for;
  trainer/status and /diagnostics (diagnostic_msgs/DiagnosticArray, 1 Hz).
Calls: sets the parameter difficulty of robot_bridge, once per robot, where a curriculum is set.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
import os
from pathlib import Path
from queue import Empty, SimpleQueue
import sys
import threading
import traceback
from typing import Annotated, Any

from msgspec import Meta
import numpy as np
from rl_nodes.algorithms.base import Learner
from rl_nodes.algorithms.on_policy import OnPolicyLearner
from rl_nodes.core.errors import ConfigError, RlNodesError, SpecError
from rl_nodes.core.fleet import robot_namespaces, topic_in
from rl_nodes.core.scheduling import be_expendable
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.experience import layout_columns
from rl_nodes.data.transition_store import is_store
from rl_nodes.envs.sim_env import SimEnv
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.nodes import conversions, qos
from rl_nodes.nodes.difficulty import DifficultySetter
from rl_nodes.nodes.lifecycle import main as run_main
from rl_nodes.nodes.lifecycle import OK, TaskNode, WARN
from rl_nodes.nodes.parameters import NodeParameters
from rl_nodes.nodes.recorded_transitions import read_transitions
from rl_nodes.training import demonstrations
from rl_nodes.training.curriculum import why_in_vain
from rl_nodes.training.evaluation import evaluate, Evaluation, FILM_SEED
from rl_nodes.training.experiment import conduct, Experiment, TrainResult
from rl_nodes.training.film import write_film
from rl_nodes.training.fresh_rows import for_robots, FreshRollouts
from rl_nodes.training.limits import Limits, Target
from rl_nodes.training.progress import Progress
from rl_nodes.training.settings import load_settings, require_flat
from rl_nodes.training.sources import Source
from std_msgs.msg import Float32MultiArray, UInt8MultiArray
import torch


class TrainerParameters(NodeParameters, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """
    Parameters of the trainer.

    :param algorithm: name in config/train or path to a YAML file
    :param run_dir: policy, checkpoints, metrics and report are written here
    :param seed: of every random draw of the learner
    :param time_budget_s: training ends after this wall time at the latest; 0 for no limit
    :param target_success: success rate, judged on fresh episodes, that ends training; 0 for none
    :param demonstrations: to learn from besides: a .npz file, recorded episodes; empty for none
    :param prefill: what the replay buffer begins with, likewise
    :param film: leave rollout.gif, one episode of the best policy in the simulator
    :param resume: run directory to go on from; must be run_dir
    :param simulator: backend in which exported policies are judged; empty to judge none
    :param robots: how many send experience; beyond one each has its namespace robot_<number>
    """

    algorithm: str = 'sac'
    run_dir: str = 'runs/latest'
    seed: Annotated[int, Meta(ge=0)] = 0
    time_budget_s: Annotated[float, Meta(ge=0)] = 300.0
    target_success: Annotated[float, Meta(ge=0, le=1)] = 0.95
    demonstrations: str = ''
    prefill: str = ''
    film: bool = False
    resume: str = ''
    simulator: str = 'pybullet'
    robots: Annotated[int, Meta(ge=1)] = 1


class GraphSource:
    """
    Experience from the ROS graph: filled by the executor's thread, emptied by the learner's.

    :param publish: hands a bundle to the graph.
    :param set_difficulty: hands a difficulty to the graph.
    """

    wants_policies = True

    def __init__(self, publish: Callable[[PolicyBundle], None],
                 set_difficulty: Callable[[float], None]) -> None:
        self._publish = publish
        self.set_difficulty = set_difficulty
        self._batches: SimpleQueue[TransitionBatch] = SimpleQueue()
        self._updates: dict[int, int] = {}
        self._in_use = 0

    def add(self, batch: TransitionBatch) -> None:
        """Queue what has arrived."""
        self._batches.put(batch)

    def collect(self) -> TransitionBatch | None:
        """Return what has arrived since the last call, or None."""
        batches = []
        try:
            while True:
                batches.append(self._batches.get_nowait())
        except Empty:
            pass
        if not batches:
            return None
        batch = TransitionBatch.concatenate(batches)
        newest = int(batch.policy_version.max())
        if newest in self._updates:
            self._in_use = self._updates[newest]
            self._updates = {version: updates for version, updates in self._updates.items()
                             if version >= newest}
        return batch

    def publish(self, bundle: PolicyBundle, version: int, updates: int) -> None:
        """Hand out a newer policy."""
        if not self._updates:
            self._in_use = updates  # nothing has acted yet, so nothing is stale
        self._updates[version] = updates
        self._publish(bundle)

    def policy_updates_in_use(self) -> int:
        """Return the gradient steps behind the newest policy that has been seen acting."""
        return self._in_use

    def metrics(self) -> dict[str, float]:
        """Return nothing."""
        return {}

    def restart(self, steps: int) -> None:
        """Do nothing: the robot goes on, whatever is written meanwhile."""

    def close(self) -> None:
        """Nothing to release."""


class Trainer(TaskNode[TrainerParameters]):
    """See the module's text."""

    parameters_type = TrainerParameters
    status_topic = 'trainer/status'

    def configure(self) -> None:
        """Check settings, then build the entities; learning starts when activated."""
        super().configure()
        require_flat(self.task.contract)
        parameters = self.parameters
        target = Target('success_rate', parameters.target_success) \
            if parameters.target_success and parameters.simulator else None
        settings = load_settings(parameters.algorithm)
        if settings.on_policy:
            settings = for_robots(settings, self.task.contract)
        if parameters.film and not parameters.simulator:
            raise ConfigError('film = true needs a simulator to draw an episode in; name one with '
                              'the parameter simulator, or render recorded episodes: rl_nodes '
                              'render')
        if why := why_in_vain(settings.loop.curriculum, self.task.variation_names,
                              f'task {self.task.name}'):
            raise ConfigError(why)
        self._costs = bool(settings.cost)
        if self._costs and settings.cost != 'limited':
            raise ConfigError(
                f'each step is to cost {settings.cost!r}; the graph sends '
                "'limited' (the safety monitor changed the command) and no other cost with "
                'experience. Train in one process: rl_nodes train env:=...')
        self._experiment = Experiment(
            name=f'{self.task.name}_{self.task.robot.name}',
            folder=Path(parameters.run_dir), contract=self.task.contract,
            settings=settings, seed=parameters.seed,
            limits=Limits(time_s=parameters.time_budget_s or None, target=target),
            resume=bool(parameters.resume), **{
                name: self._recorded(Path(given)) for name in ('demonstrations', 'prefill')
                if (given := getattr(parameters, name))})
        size = self.task.contract
        self._columns = layout_columns(size.observation.shape[0], size.action.shape[0],
                                       len(size.privileged.elements) if size.privileged else 0)
        self._progress = Progress(sys.stdout)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused, self._received = 0, 0
        self._updates = self.publish_on(UInt8MultiArray, 'policy/update', qos.LATCHED)
        namespaces = robot_namespaces(parameters.robots)
        self._difficulty = DifficultySetter(
            self, [topic_in(namespace, 'robot_bridge') for namespace in namespaces])
        self._source = GraphSource(
            lambda bundle: self._updates.publish(conversions.bundle_to_msg(bundle)),
            lambda difficulty: setattr(self._difficulty, 'wanted', difficulty))
        self._feed: Source = self._source
        for index, namespace in enumerate(namespaces):
            self.subscribe(Float32MultiArray, topic_in(namespace, 'experience'),
                           partial(self._on_experience, index), qos.BATCH)

    def _recorded(self, path: Path) -> TransitionBatch:
        if path.suffix == '.npz' or is_store(path):
            return demonstrations.load(path, self.task.contract)
        return read_transitions([path], self.task.contract, self.parameters.robot,
                                self.parameters.task)[0]

    def activate(self) -> None:
        """Learn."""
        self._thread = threading.Thread(target=self._learn, name='learner')
        self._thread.start()

    def deactivate(self) -> None:
        """End the run in good order: checkpoint, policy and report are written."""
        self._stop.set()

    def release(self) -> None:
        """Wait for the run's end."""
        thread = getattr(self, '_thread', None)
        if thread is not None:
            thread.join()
        difficulty, self._difficulty = getattr(self, '_difficulty', None), None
        if difficulty is not None:
            difficulty.close()

    def _on_experience(self, robot: int, msg: Float32MultiArray) -> None:
        try:
            batch = conversions.msg_to_batch(msg, self._columns)
        except SpecError as error:
            self._refused += 1
            self.get_logger().warning(f'dropped: {error}', throttle_duration_sec=5.0)
            return
        self._received += len(batch)
        # Every robot counts its own episodes; here each number must stand for one of them.
        episode = batch.episode * self.parameters.robots + robot
        cost = batch.limited.astype(np.float32) if self._costs else None
        self._source.add(replace(batch, episode=episode, cost=cost))

    def _learn(self) -> None:
        """Conduct the experiment; its end is the node's end."""
        if not self.lockstep:  # in lockstep the robot waits, and learning is what takes time
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        torch.set_num_threads(1)
        env = None
        try:
            if self.parameters.simulator:
                env = SimEnv(self.parameters.robot, self.parameters.task,
                             self.parameters.simulator)
            result = conduct(self._experiment, self._source_for,
                             self._evaluator(env) if env else None, self._progress, self._stop,
                             self._film if self.parameters.film else None)
            self._tell(result)
            self.exit(0)
        except RlNodesError as error:
            self.refusal = str(error)
            self.get_logger().fatal(str(error))
            self.exit(1 if self._received else 2)
        except Exception:
            self.fault(traceback.format_exc())
        finally:
            if env is not None:
                env.close()

    def _source_for(self, learner: Learner, _steps: int) -> Source:
        if isinstance(learner, OnPolicyLearner):
            self._feed = FreshRollouts(self._source, learner,
                                       self._experiment.settings.loop.n_envs)
        return self._feed

    def _evaluator(self, env: SimEnv) -> Callable[[PolicyBundle, Sequence[int]], Evaluation]:
        discount = self._experiment.settings.learner.discount
        cost = self._experiment.settings.cost
        return lambda bundle, seeds: evaluate(env, PolicyRuntime(bundle), seeds, discount, cost)

    def _film(self, policy: PolicyBundle, path: Path) -> None:
        env = SimEnv(self.parameters.robot, self.parameters.task, self.parameters.simulator,
                     render_mode='rgb_array')
        try:
            write_film(env, PolicyRuntime(policy), FILM_SEED, path)
        finally:
            env.close()

    def _tell(self, result: TrainResult) -> None:
        judged = result.evaluation.text() if result.evaluation else 'not judged'
        self.get_logger().info(
            f'training ended ({result.reason}) after {result.elapsed_s:.0f} s, {result.steps} '
            f'steps, {result.updates} updates: {judged}; policy: {result.policy or "none"}')

    def health(self) -> tuple[int, str, dict[str, Any]]:
        """Return what has been received and refused."""
        alive = self._thread is not None and self._thread.is_alive()
        return (OK, 'learning', self._counts()) if alive else (WARN, 'ended', self._counts())

    def _counts(self) -> dict[str, Any]:
        return {'transitions': self._received, 'batches_refused': self._refused,
                **self._feed.metrics(),
                'policy_updates_in_use': self._source.policy_updates_in_use(),
                'difficulty': 1.0 if self._difficulty.taken is None else self._difficulty.taken}


def main() -> None:
    """Run the node; where memory runs out, control is to outlive it."""
    be_expendable()
    run_main(Trainer, 'trainer')


if __name__ == '__main__':
    main()
