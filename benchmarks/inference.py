# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
How long one inference call takes, against ONNX Runtime's C API and against torch.

The same squashed Gaussian actor (36 observations, two layers of 256, 12 actions, normaliser and
scaling inside) answers the same observations three ways, in turns of a few hundred calls so that
whatever else the machine does hits all alike. Ratios are of the medians.

    python -m benchmarks.inference [--quick]
"""

import argparse
from collections.abc import Callable
import ctypes
from pathlib import Path
import shutil
import subprocess
import tempfile
import time

import numpy as np
from rl_nodes.core.contract import Contract, Joint
from rl_nodes.core.errors import ConfigError
from rl_nodes.core.specs import ArraySpec
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.runtime import PolicyRuntime
import rl_nodes.realtime
from rl_nodes.realtime import onnxruntime_library
import torch
from torch import nn

from benchmarks.report import LATENCY_HEAD, latency_row, Metric, percentile, publish, table

JOINTS = 12
OBSERVATIONS = 3 * JOINTS
WIDTH = 256
CALLS = 200
Timed = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Actor(nn.Module):
    """The network measured: outputs (action, action_mean, action_std)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('mean', torch.randn(OBSERVATIONS))
        self.register_buffer('variance', torch.rand(OBSERVATIONS) + 0.5)
        self.trunk = nn.Sequential(nn.Linear(OBSERVATIONS, WIDTH), nn.ReLU(),
                                   nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.heads = nn.Linear(WIDTH, 2 * JOINTS)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """
        Answer a batch.

        :param observation: shape (B, O), float32.
        :return: three tensors of shape (B, A).
        """
        x = (observation - self.mean) / torch.sqrt(self.variance + 1e-8)
        mean, log_std = self.heads(self.trunk(x.clamp(-10.0, 10.0))).chunk(2, -1)
        return torch.tanh(mean), mean, log_std.clamp(-20.0, 2.0).exp()


def contract() -> Contract:
    """Return the contract of a robot with 12 joints."""
    names = tuple(f'joint_{i}' for i in range(JOINTS))
    return Contract(
        robot='benchmark', task='inference', rate_hz=100.0, control_mode='position',
        joints=tuple(Joint(name=n, unit='rad', lower=-1.0, upper=1.0, velocity=1.0, effort=1.0)
                     for n in names),
        observation=ArraySpec(
            name='observation', elements=tuple(f'o{i}' for i in range(OBSERVATIONS)),
            units=('1',) * OBSERVATIONS, low=(None,) * OBSERVATIONS, high=(None,) * OBSERVATIONS),
        action=ArraySpec(name='action', elements=names, units=('rad',) * JOINTS,
                         low=(-1.0,) * JOINTS, high=(1.0,) * JOINTS),
        action_kind='position')


def in_python(act: Callable[[np.ndarray], np.ndarray]) -> Timed:
    """Return what times ``act`` call by call: observations -> (actions, durations [ns])."""
    clock = time.perf_counter_ns

    def timed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        took = np.empty(len(rows), np.int64)
        actions = np.empty((len(rows), JOINTS), np.float32)
        for i, row in enumerate(rows):
            start = clock()
            action = act(row)
            took[i] = clock() - start
            actions[i] = action
        return actions, took

    return timed


def in_torch(actor: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Return one eager call from numpy to numpy, as a node with torch inside makes it."""
    def act(row: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            action: np.ndarray = actor(torch.from_numpy(row).unsqueeze(0))[0][0].numpy()
            return action
    return act


def in_c(bundle: PolicyBundle, folder: Path) -> tuple[dict[str, Timed], str]:
    """Return (ways to call the C API by name, why there are none)."""
    compiler = shutil.which('g++')
    if compiler is None:
        return {}, 'no g++ on this machine to compile the C peer'
    try:
        library = onnxruntime_library()
    except ConfigError as error:
        return {}, str(error)
    source, built = Path(__file__).with_name('inference_c.cpp'), folder / 'inference_c.so'
    headers = Path(rl_nodes.realtime.__file__).with_name('src')
    done = subprocess.run([compiler, '-std=c++17', '-O2', '-shared', '-fPIC', f'-I{headers}',
                           str(source), '-o', str(built), '-ldl'],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {}, f'the C peer does not compile: {done.stderr.strip().splitlines()[:1]}'
    peer = ctypes.CDLL(str(built))
    peer.peer_message.restype = ctypes.c_char_p
    if peer.peer_open(str(library).encode(), bundle.onnx, ctypes.c_uint64(len(bundle.onnx)),
                      ctypes.c_int64(OBSERVATIONS), ctypes.c_int64(JOINTS), 3):
        return {}, f'the C peer does not start: {peer.peer_message().decode()}'

    def way(bound: int) -> Timed:
        def timed(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            took = np.empty(len(rows), np.int64)
            actions = np.empty((len(rows), JOINTS), np.float32)
            if peer.peer_act(rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(rows)),
                             bound, actions.ctypes.data_as(ctypes.c_void_p),
                             took.ctypes.data_as(ctypes.c_void_p)):
                raise RuntimeError(f'the C peer failed: {peer.peer_message().decode()}')
            return actions, took
        return timed

    return {'C API, bound': way(1), 'C API, Run': way(0)}, ''


def export_costs(actor: Actor, repeats: int) -> tuple[PolicyBundle, list[list[str]]]:
    """Return (a bundle, what the template and each refresh cost)."""
    start = time.perf_counter_ns()
    exporter = PolicyExporter(actor, contract(), 'benchmark', 'sac', 'squashed_gaussian')
    bundle = exporter.export(actor, 0, 0)
    first = [time.perf_counter_ns() - start]
    later, loading = [], []
    for version in range(1, repeats + 1):
        start = time.perf_counter_ns()
        bundle = exporter.export(actor, version, version)
        later.append(time.perf_counter_ns() - start)
        text, start = bundle.manifest_json(), time.perf_counter_ns()
        PolicyRuntime(PolicyBundle.from_parts(bundle.onnx, text))
        loading.append(time.perf_counter_ns() - start)
    return bundle, [[name, *(f'{percentile(times, q) / 1e6:.1f}' for q in (50, 100))]
                    for name, times in (('first export', first), ('later export', later),
                                        ('check, load, warm up', loading))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='under a minute')
    rounds = 60 if parser.parse_args().quick else 600
    torch.manual_seed(0)
    torch.set_num_threads(1)
    actor = Actor().eval()
    bundle, costs = export_costs(actor, 20)
    rows = np.random.default_rng(0).standard_normal((CALLS, OBSERVATIONS)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        c_ways, why_not = in_c(bundle, Path(folder))
        ways = {'ours': in_python(PolicyRuntime(bundle).act), **c_ways,
                'torch eager': in_python(in_torch(actor))}
        wanted = ways['ours'](rows)[0]
        for name, timed in ways.items():
            if not np.allclose(timed(rows)[0], wanted, atol=1e-5):
                raise RuntimeError(f'{name} does not give the same actions')
        took = {name: np.concatenate(parts) for name, parts in zip(
            ways, zip(*([timed(rows)[1] for timed in ways.values()] for _ in range(rounds))))}

    print(table(LATENCY_HEAD, [latency_row(name, samples) for name, samples in took.items()]))
    print(table(['', 'p50 ms', 'max ms'], costs))
    median = {name: percentile(samples, 50) for name, samples in took.items()}
    best_c = min(c_ways, key=median.__getitem__, default=None)
    publish({
        'ours_vs_c': Metric(None if best_c is None else median['ours'] / median[best_c], '<= 1.3',
                            why_not if best_c is None else f'p50 through the {best_c}'),
        'torch_vs_ours': Metric(median['torch eager'] / median['ours'], '>= 4',
                                'p50 of torch eager, one thread, numpy in and out'),
    })


if __name__ == '__main__':
    main()
