# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
From recorded episodes to the guard of a safety monitor.

This is the function behind ``rl_nodes safety calibrate``. Episodes that went well are dealt out to
two parts by a seed: one gives the distribution of observations (and, with those that failed, what
the risk network learns from), the other one the thresholds, see ``safety/conformal.py``.
"""

from collections.abc import Sequence
from datetime import datetime, UTC
import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct, UNSET, UnsetType
import numpy as np
from rl_nodes.core.contract import Contract
from rl_nodes.core.errors import ConfigError, TrainingError
from rl_nodes.data.recorded import RecordedEpisode
from rl_nodes.inference.bundle import PolicyBundle
from rl_nodes.inference.export import PolicyExporter
from rl_nodes.inference.risk import ALGORITHM, risk_contract
from rl_nodes.safety import conformal
from rl_nodes.safety.distribution import fit, greatest, pairs
from rl_nodes.safety.guard_file import Calibrated, GuardFile, Risk
from rl_nodes.training.risk import (
    label,
    Labelled,
    ranked_right,
    RiskModule,
    risks,
    train_risk,
)

LEAST_FAILURES = 10
_TEST_SHARE = 0.3  # of the episodes that failed; the network does not see them
_BELOW = 0.9       # of all calibrations, in what is said of the rate


class CalibrateOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Arguments of ``rl_nodes safety calibrate``.

    :param policy: the .onnx file that acted; the guard is written beside it
    :param output: file of the guard; empty for <policy>.guard.json
    :param false_alarms: rate of false alarms per episode that is not to be exceeded
    :param fit_share: share of the episodes that went well that gives the distribution; the rest
        gives the thresholds
    :param verdict: of an alarm: stop, latched; or hold, until it has gone
    :param risk: train a risk network besides; needs recorded failures. The rate of false alarms
        is then shared by both
    :param horizon_s: how far ahead the risk network looks [s]
    :param seed: of who belongs to which part, and of the network
    """

    policy: str = ''
    output: str = ''
    false_alarms: Annotated[float, Meta(ge=1e-4, le=0.5)] = 0.05
    fit_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    verdict: Literal['hold', 'stop'] = 'stop'
    risk: bool = False
    horizon_s: Annotated[float, Meta(gt=0)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class Dealt(NamedTuple):
    """
    Who belongs to which part.

    :param fitted: went well; give the distribution.
    :param calibrating: went well; give the thresholds.
    :param learned: failed; the network learns from them.
    :param tested: failed; it is tested on them.
    """

    fitted: list[RecordedEpisode]
    calibrating: list[RecordedEpisode]
    learned: list[RecordedEpisode]
    tested: list[RecordedEpisode]


def calibrate(options: CalibrateOptions, episodes: Sequence[RecordedEpisode], contract: Contract,
              files: Sequence[Path]) -> tuple[Path, str]:
    """
    Write a guard; return (its file, what was found, for people).

    :param episodes: whole recorded episodes.
    :param contract: that all of them were recorded under.
    :param files: the recordings, whose hashes the guard carries.
    :raises ConfigError: too few episodes, or an output that is there already.
    :raises ContractError: the policy is for something else.
    """
    output = _output(options)
    policies = sorted({name for one in episodes
                       for name in json.loads(one.metadata.get('policy_versions') or '[]')})
    others = _others(options.policy, contract, policies)
    rate = options.false_alarms / 2 if options.risk else options.false_alarms
    dealt = _deal(options, episodes, rate)
    rows = [pairs(one.batch.observation, one.batch.step) for one in dealt.fitted]
    distribution = fit(np.concatenate(rows))
    maxima = np.array([greatest(distribution, one.batch.observation, one.batch.step)
                       for one in dealt.calibrating])
    calibration = _calibrated(maxima, rate)
    lines = [
        f'{len(dealt.fitted)} episodes that went well give the distribution of '
        f'{len(contract.observation.elements)} elements, {len(maxima)} others the threshold',
        f'score of an episode: median {np.median(maxima):.3g}, greatest {maxima.max():.3g}; '
        f'threshold {calibration.threshold:.3g}', _promise(len(maxima), rate)]
    risk: Risk | UnsetType = UNSET
    if options.risk:
        risk, found = _risk(options, dealt, contract, rate, output)
        lines += found
    guard = GuardFile(
        robot=contract.robot, task=contract.task, contract=contract.fingerprint(),
        verdict=options.verdict, distribution=distribution, calibration=calibration, risk=risk,
        fitted_episodes=len(dealt.fitted), policies=tuple(policies),
        data={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        created=datetime.now(UTC).isoformat(timespec='seconds')).sealed()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(guard.to_json())
    except OSError as error:
        raise ConfigError(f'{output} cannot be written: {error.strerror}') from None
    return output, '\n'.join([*lines, *others])


def _others(policy: str, contract: Contract, policies: Sequence[str]) -> list[str]:
    """Return a line where others acted than the policy that the guard is for."""
    if not policy:
        return []
    bundle = PolicyBundle.load(policy)
    contract.require(bundle.manifest.contract, 'the recorded episodes', f'policy {policy}')
    others = [name for name in policies if name != bundle.label]
    return [f'note: {", ".join(others)} acted in the episodes, not only {bundle.label}: the rate '
            'holds for whoever acts as often as there'] if others else []


def _output(options: CalibrateOptions) -> Path:
    if not options.output and not options.policy:
        raise ConfigError('safety calibrate writes where? give policy:=policy.onnx, beside which '
                          'the guard lies then, or output:=file.json')
    output = Path(options.output or Path(options.policy).with_suffix('.guard.json')).expanduser()
    if output.suffix != '.json':
        raise ConfigError(f'output:={options.output}: expected the name of a .json file')
    for path in (output, _network(output)) if options.risk else (output,):
        if path.exists():
            raise ConfigError(f'{path} exists; name another file or move that one aside')
    return output


def _network(output: Path) -> Path:
    return output.with_name(f'{output.stem}.risk.onnx')


def _deal(options: CalibrateOptions, episodes: Sequence[RecordedEpisode], rate: float) -> Dealt:
    """Deal out the episodes; ConfigError where there are too few."""
    rng = np.random.default_rng(options.seed)
    mixed = [(episodes[i], label(episodes[i].batch, 0.0).failed)
             for i in rng.permutation(len(episodes))]
    failed = [one for one, bad in mixed if bad]
    well = [one for one, bad in mixed if not bad and one.metadata.get('success') == 'true']
    fitted = round(options.fit_share * len(well))
    least = conformal.least_episodes(rate)
    if fitted < 2 or len(well) - fitted < least:
        raise ConfigError(
            f'{len(well)} of {len(episodes)} episodes went well; with fit_share:='
            f'{options.fit_share} that leaves {len(well) - fitted} for the thresholds, and a rate '
            f'of false alarms of {rate} per episode and guard needs {least} at least: record '
            'more, or allow more false alarms')
    if options.risk and len(failed) < LEAST_FAILURES:
        raise ConfigError(f'risk:=true: {len(failed)} of {len(episodes)} episodes failed, a '
                          f'network needs {LEAST_FAILURES} at least; record worse policies too')
    tested = round(_TEST_SHARE * len(failed))
    return Dealt(well[:fitted], well[fitted:], failed[tested:], failed[:tested])


def _calibrated(maxima: np.ndarray, rate: float) -> Calibrated:
    try:
        return Calibrated(conformal.threshold(maxima, rate), rate, len(maxima))
    except ValueError as error:
        raise TrainingError(f'safety calibrate: {error}') from None


def _promise(episodes: int, rate: float) -> str:
    return (f'false alarms: at most {rate:.3g} of the episodes like these, on average over all '
            f'calibrations; below {conformal.likely_rate(episodes, rate, _BELOW):.3g} in '
            f'{_BELOW:.0%} of them')


def _risk(options: CalibrateOptions, dealt: Dealt, contract: Contract, rate: float,
          output: Path) -> tuple[Risk, list[str]]:
    """Train, test and write the network; return (what the guard says of it, what was found)."""
    discount = max(0.0, 1.0 - 1.0 / (options.horizon_s * contract.rate_hz))
    fitted, calibrating, learned, tested = (
        [label(one.batch, discount) for one in part] for part in dealt)
    module = train_risk([*fitted, *learned], options.seed)
    calm = [risks(module, _asked(one)) for one in dealt.calibrating]
    calibration = _calibrated(np.array([one.max() for one in calm]), rate)
    wanted = risk_contract(contract)
    bundle = PolicyExporter(module, wanted, f'{contract.task[:50]}_risk', ALGORITHM,
                            'deterministic').export(module, 1, 0, np.concatenate(
                                [one.asked for one in [*fitted, *learned]]))
    bundle.save(_network(output))
    return Risk(_network(output).name, bundle.manifest.sha256, options.horizon_s, calibration), [
        f'risk network: learned from {len(learned)} episodes that failed and {len(fitted)} that '
        f'went well; threshold {calibration.threshold:.3g}', _promise(len(calm), rate),
        _test(module, tested, np.concatenate(calm), calibration.threshold, options.horizon_s,
              contract.rate_hz)]


def _asked(one: RecordedEpisode) -> np.ndarray:
    """Return all that the network would have been asked in an episode, (N, O + A)."""
    return np.concatenate([one.batch.observation, one.batch.action], axis=1, dtype=np.float32)


def _test(module: RiskModule, tested: list[Labelled], calm: np.ndarray, threshold: float,
          horizon_s: float, rate_hz: float) -> str:
    """Return how well the network tells what fails, on episodes that it has not seen."""
    horizon = round(horizon_s * rate_hz)
    leads, near = [], []
    for episode in tested:
        found = risks(module, episode.asked)
        near.append(found[-horizon:])
        alarms = np.flatnonzero(~(found <= threshold))
        leads += [(len(found) - 1 - int(alarms[0])) / rate_hz] if len(alarms) else []
    text = f'; the first alarm came {np.median(leads):.2g} s before (median)' if leads else ''
    return (f'held out: {len(leads)} of {len(tested)} failures announced{text}; steps within '
            f'{horizon_s:g} s of a failure are riskier than those of episodes that went well in '
            f'{ranked_right(np.concatenate(near), calm):.1%} of pairs')
