# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""A moving picture of what a policy does, for whoever looks at a run."""

from pathlib import Path

import gymnasium
import numpy as np
from PIL import Image
from rl_nodes.core.errors import TrainingError
from rl_nodes.training.evaluation import Policy

FRAMES_PER_S = 12.5
MAX_FRAMES = 250
_WIDTH = 400        # pixels; pictures are made smaller, never larger
_COLOURS = 96


def write_film(env: gymnasium.Env, policy: Policy, seed: int, path: Path) -> Path:
    """
    Draw one episode with the deterministic policy as a GIF.

    :param env: made with ``render_mode='rgb_array'``; has a time limit, or is cut off.
    :param seed: of the reset.
    :param path: the file.
    :raises TrainingError: the environment cannot be drawn.
    """
    rate_hz = float(env.metadata.get('render_fps') or FRAMES_PER_S)
    every = max(1, round(rate_hz / FRAMES_PER_S))
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    observation, _ = env.reset(seed=seed)
    policy.reset()
    frames, step, done = [_frame(env)], 0, False
    while not done and len(frames) < MAX_FRAMES:
        action = policy.act(np.asarray(observation, np.float32)).copy()
        observation, _, terminated, truncated, _ = env.step(action[0] if discrete else action)
        done, step = bool(terminated or truncated), step + 1
        if step % every == 0 or done:
            frames.append(_frame(env))
    period_ms = round(1000 * every / rate_hz)
    durations = [period_ms] * (len(frames) - 1) + [max(period_ms, 500)]  # rest on the last one
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return path


def _frame(env: gymnasium.Env) -> Image.Image:
    try:
        picture = env.render()
    except (gymnasium.error.Error, ImportError, RuntimeError) as error:
        raise TrainingError(f'{type(error).__name__}: {error}') from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.dtype != np.uint8:
        raise TrainingError(f'render() gives {type(picture).__name__} and no picture')
    image = Image.fromarray(picture)
    if image.width > _WIDTH:
        image = image.resize((_WIDTH, round(image.height * _WIDTH / image.width)))
    return image.quantize(_COLOURS)
