# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
A worker of ``vector_env.py``: hosts several environments and steps them when told to.

It is a program of its own, started with its assignment as JSON in the only argument, so it shares
no interpreter state with whoever steps it. Commands and answers are single bytes on two pipes,
numbers are in the shared blocks. It ends when its command pipe is closed, which the kernel also
does when the process that steps it dies.
"""

import os
import sys
import traceback

import msgspec
from rl_nodes.core import errors
from rl_nodes.envs.shared_blocks import BlockLayout, NO_SEED, SharedBlocks
from rl_nodes.envs.sim_env import SimEnv

STEP, RESET, RENDER = b's', b'r', b'p'
READY, DONE, FAILED = b'R', b'D', b'F'


class Assignment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What one worker hosts.

    :param worker: its number, from 0.
    :param first: number of its first environment.
    :param count: of its environments.
    :param robot: see :class:`SimEnv`, as are ``task``, ``backend`` and ``render_mode``.
    :param info_names: order of the info block's columns.
    :param layout: of the shared blocks.
    :param memory: descriptor of their memory.
    :param commands: descriptor that commands are read from.
    :param answers: descriptor that answers are written to.
    """

    worker: int
    first: int
    count: int
    robot: str
    task: str
    backend: str
    render_mode: str | None
    info_names: tuple[str, ...]
    layout: BlockLayout
    memory: int
    commands: int
    answers: int


class Worker:
    """
    Environments ``first`` to ``first + count - 1`` of a vector environment.

    :param assignment: see there.
    :param blocks: where numbers come from and go to.
    """

    def __init__(self, assignment: Assignment, blocks: SharedBlocks) -> None:
        self._assignment = assignment
        self._blocks = blocks
        self._rows = range(assignment.first, assignment.first + assignment.count)
        self._envs = [SimEnv(assignment.robot, assignment.task, assignment.backend,
                             assignment.render_mode) for _ in self._rows]

    def reset(self) -> None:
        """Reset every environment with its seed, where it was given one."""
        for i, env in zip(self._rows, self._envs):
            seed = int(self._blocks.seed[i])
            self._reset_one(i, env, None if seed == NO_SEED else seed)

    def step(self) -> None:
        """Step every environment; reset those whose episode has ended, within the same step."""
        blocks, names = self._blocks, self._assignment.info_names
        for i, env in zip(self._rows, self._envs):
            # A copy: an environment may keep its action, the block changes with the next step.
            observation, reward, terminated, truncated, info = env.step(blocks.action[i].copy())
            blocks.reward[i] = reward
            blocks.terminated[i] = terminated
            blocks.truncated[i] = truncated
            blocks.info[i] = [info[name] for name in names]
            if terminated or truncated:
                blocks.final_observation[i] = observation
                blocks.final_privileged[i] = info.get('privileged', ())
                self._reset_one(i, env, None)
            else:
                blocks.observation[i] = observation
                blocks.privileged[i] = info.get('privileged', ())

    def _reset_one(self, i: int, env: SimEnv, seed: int | None) -> None:
        """Begin another episode of one environment."""
        env.difficulty = float(self._blocks.difficulty[i])
        self._blocks.observation[i], info = env.reset(seed=seed)
        self._blocks.variation[i] = list(info.get('randomisation', {}).values())
        self._blocks.privileged[i] = info.get('privileged', ())

    def render(self) -> None:
        """Draw every environment."""
        for i, env in zip(self._rows, self._envs):
            self._blocks.picture[i] = env.render()

    def serve(self) -> None:
        """Answer commands until their pipe is closed."""
        verbs = {STEP: self.step, RESET: self.reset, RENDER: self.render}
        os.write(self._assignment.answers, READY)
        while command := os.read(self._assignment.commands, 1):
            verbs[command]()
            os.write(self._assignment.answers, DONE)


def main() -> int:
    """Serve; a failure is told through the shared blocks."""
    assignment = msgspec.json.decode(sys.argv[1], type=Assignment)
    blocks = SharedBlocks(assignment.layout, assignment.memory)
    try:
        Worker(assignment, blocks).serve()
    except BrokenPipeError:
        return 0  # whoever steps us has gone
    except errors.RlNodesError as error:
        blocks.write_message(assignment.worker, str(error))
    except Exception as error:  # the other side must learn of a defect, too
        traceback.print_exc()
        blocks.write_message(assignment.worker, f'{type(error).__name__}: {error}')
    else:
        return 0
    os.write(assignment.answers, FAILED)
    return 1


if __name__ == '__main__':
    sys.exit(main())
