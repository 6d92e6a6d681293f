# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""``rl_nodes inspect`` and ``rl_nodes diff``: what a policy is, and where two do not agree."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from rl_nodes.core.errors import BundleError
from rl_nodes.core.timing import NS, summary_ms
from rl_nodes.inference.bundle import identify, Manifest, Origin, PolicyBundle, read_parts
from rl_nodes.inference.graph_check import parse
from rl_nodes.inference.probes import probe_pictures, random_observations
from rl_nodes.inference.runtime import PolicyRuntime
from rl_nodes.inference.trial import PolicyTrial
from rl_nodes.policies.importing import table

CALLS = 2000
CALLS_S = 2.0  # fewer calls of a slow network


def inspect_policy(path: Path) -> tuple[str, bool]:
    """
    Describe a policy file, and run it.

    :return: (report for people, whether a policy server would accept it).
    :raises BundleError: it cannot be read, is damaged, or has no manifest.
    """
    bundle = identify(*read_parts(path), str(path))
    lines = [f'{path}: policy {bundle.label}', '', *_contract(bundle.manifest), '',
             *_provenance(bundle.manifest), '']
    try:
        runtime = PolicyTrial().admit(bundle)
    except BundleError as error:
        return '\n'.join([*lines, f'REFUSED: {error}']), False
    return '\n'.join([*lines, *_sizes(bundle), *_runs(runtime)]), True


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a policy's file; BundleError where it cannot be read."""
    return identify(*read_parts(path), str(path)).manifest


def differing_memories(manifests: Mapping[str, Manifest]) -> list[str]:
    """Return a line for people for each of some policies if they do not remember the same."""
    texts = {name: ', '.join(map(str, manifest.memory)) for name, manifest in manifests.items()}
    return [f'  memory: {name} has {text or "none"}' for name, text in texts.items()
            if len(set(texts.values())) > 1]


def _contract(manifest: Manifest) -> list[str]:
    contract = manifest.contract
    rate = f'{contract.rate_hz:g} Hz' if contract.rate_hz else 'no rate'
    chunk = '' if manifest.chunk is None else (
        f', chunks of {manifest.chunk.horizon} every {manifest.chunk.spacing} periods')
    memory = [f'memory: {tensor}, zeros at the start of every episode'
              for tensor in manifest.memory]
    return [f'robot {contract.robot}, task {contract.task}, {rate}, {contract.control_mode} '
            f'control, {contract.action_kind}, {manifest.sampling} sampling{chunk}',
            f'contract {contract.fingerprint()[:16]}...', *memory,
            *(f'picture: {picture}' for picture in contract.pictures), '',
            f'observation ({len(contract.observation.elements)}):', *table(contract.observation),
            f'action ({len(contract.action.elements)}):', *table(contract.action)]


def _provenance(manifest: Manifest) -> list[str]:
    rows: dict[str, Any] = {
        'algorithm': manifest.algorithm, 'created': manifest.created,
        'training updates': manifest.training_updates,
        'training commit': manifest.training_commit or 'unknown'}
    origin = manifest.origin
    if isinstance(origin, Origin):
        rows |= {'imported from': f'{origin.file} (SHA-256 {origin.sha256[:16]}...)',
                 'trainer': origin.trainer or 'unknown',
                 'around it': '; '.join(origin.changes) or 'nothing'}
    rows |= {f'data {name}': digest for name, digest in manifest.data.items()}
    rows['evaluation'] = ', '.join(f'{name} {value}' for name, value in (
        manifest.evaluation or {}).items()) or 'none'
    return _aligned(rows)


def _sizes(bundle: PolicyBundle) -> list[str]:
    weights = sum(int(np.prod(tensor.dims)) for tensor in parse(bundle.onnx).graph.initializer)
    digest = f'SHA-256 {bundle.manifest.sha256[:16]}...'
    return _aligned({'file': f'{len(bundle.onnx)} bytes, {digest}, opset {bundle.manifest.opset}',
                     'parameters': weights})


def _runs(runtime: PolicyRuntime) -> list[str]:
    """Time single calls; that there is a runtime means that the golden vectors agree."""
    rows = random_observations(runtime.contract.observation)
    pictures = [probe_pictures(runtime.contract.pictures, number) for number in range(len(rows))]
    durations: list[int] = []
    begun = perf_counter_ns()
    while len(durations) < CALLS and perf_counter_ns() - begun < CALLS_S * NS:
        row = len(durations) % len(rows)
        if row == 0:
            runtime.reset()
        at = perf_counter_ns()
        runtime.act(rows[row], pictures=pictures[row])
        durations.append(perf_counter_ns() - at)
    found = summary_ms(np.array(durations) / NS, len(durations))
    return _aligned({
        'golden vectors': f'{len(runtime.bundle.manifest.golden)} agree',
        'one call': f'p50 {found["p50_ms"]:.3f} ms, p99 {found["p99_ms"]:.3f} ms, max '
                    f'{found["max_ms"]:.3f} ms ({len(durations)} calls on this machine)'})


def _aligned(rows: Mapping[str, Any]) -> list[str]:
    return [f'{name:<18}{value}' for name, value in rows.items()]
