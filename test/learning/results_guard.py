# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""Guards whose learned risk runs of ``results.yaml`` are charged for."""

from collections.abc import Callable
import json
from pathlib import Path
from typing import Annotated

import gymnasium
import msgspec
import numpy as np
from rl_nodes.control.controllers import lqr_config
from rl_nodes.core.origin import Origin
from rl_nodes.core.robot import load_robot
from rl_nodes.core.types import TransitionBatch
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.training.guarding import calibrate, CalibrateOptions

_STRIDE_M = 0.3    # greatest distance of the cart to where it is told to go
_KEPT = 0.9        # of the noise from step to step
_FARTHEST_M = 1.4  # place that it is told to go to; beyond the rail's end


class Charged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    What is taken off the rewards for a risk that was learned from recorded failures.

    :param episodes: of the cart-pole under its LQR, told to go anywhere and disturbed, of which
        some fail.
    :param risk_coefficient: reward lost at a risk of 1.
    """

    episodes: Annotated[int, msgspec.Meta(ge=20)]
    risk_coefficient: Annotated[float, msgspec.Meta(gt=0.0)]

    def changes(self, folder: Path, make: Callable[[], gymnasium.Env]) -> dict[str, str]:
        """Return the settings that charge for the risk, once its guard is there."""
        file = folder / f'{self.episodes}.guard.json'
        if not file.exists():
            env = make()
            rng = np.random.default_rng(0)
            episodes = [recorded(env, number, rng) for number in range(self.episodes)]
            calibrate(CalibrateOptions(output=str(file), risk=True, false_alarms=0.2,
                                       horizon_s=0.5), episodes, env.unwrapped.contract, [])
            env.close()
        return {'learner.penalty': json.dumps(
            {'guard': str(file), 'risk_coefficient': self.risk_coefficient})}


def recorded(env: gymnasium.Env, number: int, rng: np.random.Generator) -> RecordedEpisode:
    """Return an episode of the LQR, which is told to go somewhere and disturbed by some noise."""
    robot = load_robot('cartpole')
    gain, limit = np.array(lqr_config(robot).gain)[0], robot.limits('effort')[0]
    place, spread = rng.uniform(-_FARTHEST_M, _FARTHEST_M), rng.uniform(0.0, 0.45)
    observation, _ = env.reset(seed=number)
    noise, rows, over = 0.0, [], False
    while not over:
        noise = _KEPT * noise + (1.0 - _KEPT ** 2) ** 0.5 * rng.normal()
        offset = observation.copy()
        offset[0] = -np.clip(place - observation[0], -_STRIDE_M, _STRIDE_M)
        action = np.float32([np.clip(spread * noise - gain @ offset / limit, -1.0, 1.0)])
        following, reward, terminated, truncated, info = env.step(action)
        rows.append((observation, action, reward, following, terminated, truncated,
                     info['success']))
        observation, over = following, terminated or truncated
    seen, done, paid, then, ended, cut, success = map(np.array, zip(*rows))
    count, index = len(rows), np.arange(len(rows))
    return RecordedEpisode(f'{number}.mcap', TransitionBatch(
        seen, done, done, paid.astype(np.float32), then, ended, cut, success,
        np.zeros(count, bool), np.zeros(count, np.int64), np.full(count, number), index,
        origin=np.full(count, int(Origin.AUTONOMOUS))), index,
        {'success': str(bool(success[-1])).lower()})
