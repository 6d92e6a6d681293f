# Copyright 2026 rl_nodes contributors
# SPDX-License-Identifier: Apache-2.0
"""
Settings chosen by what earlier ones came to, with Optuna, which is imported here only.

T. Akiba et al., Optuna: A Next-generation Hyperparameter Optimization Framework, 2019,
arXiv:1907.10902; its tree-structured Parzen estimator proposes. What has been tried lies in
``search.db`` in the sweep's folder, so that a search goes on where it was.

Bad trials may be pruned: by the median of the others at the same step (D. Golovin et al., Google
Vizier, 2017), or by successive halving (L. Li et al., A System for Massively Parallel
Hyperparameter Tuning, 2020, arXiv:1810.05934). They are judged by the evaluations of their first
seed, in the order of their steps, whenever these are looked at: one job at a time, the same seed
and the same evaluations give the same search.
"""

from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

from rl_nodes.core.errors import ConfigError
from rl_nodes.runs.record import read_rows
from rl_nodes.runs.statistics import interquartile_mean
from rl_nodes.sweep.plan import number_text, Plan
from rl_nodes.sweep.trials import Trial, unfinished

# What Optuna calls them, by our names.
PRUNERS = {'none': 'NopPruner', 'median': 'MedianPruner', 'halving': 'SuccessiveHalvingPruner'}


class Search:
    """
    Trials, each with one choice of settings and a run per seed.

    :param folder: of the sweep.
    :param trials: in all.
    :param metric: of a run's evaluation, greatest is best; empty for the success rate, or the
        return where the task has none.
    :param retry: runs that failed are tried again, in trials that are not yet judged.
    :param prune: which trials do not go on to their end, a key of ``PRUNERS``.
    :param seed: of the proposals.
    :raises ConfigError: Optuna is not installed.
    """

    def __init__(self, plan: Plan, folder: Path, trials: int, metric: str, retry: bool,
                 prune: str = 'none', seed: int = 0) -> None:
        optuna = _optuna()
        self._states, self._trial_of = optuna.trial.TrialState, optuna.trial.Trial
        self._plan, self._folder, self._trials, self._metric = plan, folder, trials, metric
        self._retry, self._prunes = retry, prune != 'none'
        self._distributions: dict[str, Any] = {
            name: (optuna.distributions.IntDistribution if isinstance(span.low, int)
                   else optuna.distributions.FloatDistribution)(span.low, span.high, log=span.log)
            for name, span in plan.ranges.items()}
        self._distributions |= {name: optuna.distributions.CategoricalDistribution(values)
                                for name, values in plan.choices.items()}
        self._storage = optuna.storages.RDBStorage(f'sqlite:///{folder / "search.db"}')
        self._study = optuna.create_study(
            study_name='sweep', storage=self._storage, direction='maximize', load_if_exists=True,
            pruner=getattr(optuna.pruners, PRUNERS[prune])())
        earlier = self._study.get_trials(deepcopy=False)
        # Another seed for what comes, or the first proposals would be repeated.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed + len(earlier), constant_liar=True)
        self.total = trials * len(plan.seeds)
        self._waiting: deque[Trial] = deque()
        self._open: dict[int, set[Path]] = {}
        self._pruned: set[int] = set()
        for trial in earlier:
            if not trial.state.is_finished():
                self._begin(trial.number, trial.params)

    def next(self) -> Trial | None:
        """Return a run of a trial that is under way, or of a new one."""
        while not self._waiting and len(self._study.get_trials(deepcopy=False)) < self._trials:
            trial = self._study.ask(self._distributions)
            self._begin(trial.number, trial.params)
        return self._waiting.popleft() if self._waiting else None

    def hopeless(self, trial: Trial) -> bool:
        """Tell Optuna of the evaluations of a trial's first seed; return whether it is pruned."""
        number = self._number(trial)
        if number in self._pruned:
            return True
        if not self._prunes or int(trial.arguments['seed']) != int(self._plan.seeds[0]):
            return False
        frozen = self._study.get_trials(deepcopy=False)[number]
        # Only so can a trial be gone on with that another process may have begun.
        asked, told = self._trial_of(self._study, frozen._trial_id), frozen.intermediate_values
        for row in read_rows(trial.folder / 'metrics.jsonl'):
            value = _evaluated(row, self._metric) if row['kind'] == 'evaluation' else None
            if value is None or row['step'] in told:
                continue
            asked.report(value, row['step'])
            if asked.should_prune():
                self._pruned.add(number)
                left = [run for run in self._waiting if run.folder in self._open[number]]
                self._waiting = deque(run for run in self._waiting if run not in left)
                self._open[number] -= {run.folder for run in left}
                return True
        return False

    def done(self, trial: Trial) -> None:
        """Judge the trial that a run belongs to once all of its runs have ended."""
        number = self._number(trial)
        if self.hopeless(trial):
            trial.prune()
        folders = self._open[number]
        folders.remove(trial.folder)
        if not folders:
            self._judge(number)

    def _number(self, trial: Trial) -> int:
        return next(number for number, folders in self._open.items() if trial.folder in folders)

    def close(self) -> None:
        """Close the data base."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _begin(self, number: int, params: dict[str, Any]) -> None:
        runs = self._runs(number, params)
        left = unfinished(runs, self._retry)
        self._open[number] = {run.folder for run in left}
        self._waiting.extend(left)
        if not left:
            self._judge(number)

    def _runs(self, number: int, params: dict[str, Any]) -> list[Trial]:
        chosen = {name: number_text(value) for name, value in params.items()}
        return [Trial(self._folder / f'trial_{number:04d}_seed={seed}',
                      {**self._plan.fixed, **chosen, 'seed': seed}) for seed in self._plan.seeds]

    def _judge(self, number: int) -> None:
        """Tell Optuna what a trial came to: a failure where one of its runs has no result."""
        del self._open[number]
        if number in self._pruned:
            self._study.tell(number, state=self._states.PRUNED)
            return
        params = self._study.get_trials(deepcopy=False)[number].params
        known = [run.known() for run in self._runs(number, params)]
        if any(run is None or run.record.state == 'interrupted' for run in known):
            return  # it goes on another time
        values = [_value(run, self._metric) for run in known
                  if run is not None and run.record.state == 'finished']
        if len(values) < len(known) or None in values:
            self._study.tell(number, state=self._states.FAIL)
        else:
            self._study.tell(number, float(interquartile_mean(values)))


def _evaluated(row: dict[str, Any], metric: str) -> float | None:
    """Return what an evaluation of a run under way came to."""
    found = row.get(metric) if metric else row.get('success_rate', row.get('return'))
    return None if found is None else float(found)


def _value(run: Any, metric: str) -> float | None:
    if metric:
        return run.result(metric)
    rate = run.result('success_rate')
    return run.result('return') if rate is None else rate


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError:
        raise ConfigError('a range such as 0.9..0.999 is searched by Optuna, which is not '
                          'installed: pip install "rl_nodes[sweep]"; or name the values to try, '
                          'as in learner.discount:=0.9,0.99') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
