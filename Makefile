# rl_nodes: every target sets up what it needs in .venv on first use.
#
#   make demo           train a small arm to reach, deploy the policy, render an episode
#   make test           lint and all tests that end within minutes
#   make test-learning  learners against known answers, every task and method into
#                       docs/results.md (hours); SEEDS="0 1 2" for several runs of each,
#                       TASKS="reach CartPole-v1" for some
#   make faults         every fault injected many times into running graphs, with reaction times;
#                       PRIORITY=80 lets what must answer in time go first, see docs/realtime.md
#   make soak           long runs with faults and without, and every variant of the tests
#   make coverage       branch coverage of the safety core; below 100 % it fails
#   make bench          every benchmark, QUICK=1 for a minute each
#   make lint, make types, make clean

SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=
QUICK_TESTS := -m 'not learning and not soak and not slow'
FAULTS_ARGS ?=
PRIORITY_ARG := $(if $(PRIORITY),--priority $(PRIORITY))
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: all demo test lint types bench coverage test-learning faults soak clean setup
.DEFAULT_GOAL := test

setup: $(READY)

# torch comes first and exactly: asked for later, other packages would choose its version. ROS 2
# comes before rl_nodes, whose C++ control path is built against its headers.
$(READY): setup.py constraints.txt $(wildcard rl_nodes/realtime/src/*)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed. Install it \
	(Debian, Ubuntu: apt install python3.11 python3.11-venv), or name another Python 3.11: \
	make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: this Python cannot make \
	virtual environments. Debian, Ubuntu: apt install $(notdir $(PYTHON))-venv" >&2; exit 1; }
	@command -v g++ >/dev/null || echo "note: no C++ compiler (apt install g++); policies \
	will be answered in Python, see docs/realtime.md" >&2
	@echo "setting up $(VENV) (some minutes, about 2 GB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  1/3 $(TORCH)"
	@$(PIP) install $(TORCH)
	@echo "  2/3 ROS 2"
	@$(PIP) install --constraint constraints.txt 'ros-jazzy-rclpy[fastrtps]' \
	  ros-jazzy-common-interfaces
	@echo "  3/3 rl_nodes with simulation and tools"
	@$(PIP) install --constraint constraints.txt --editable '.[all,ros,dev]'
	@touch $@

# An earlier run in runs/demo is moved aside, never deleted.
demo: $(READY)
	@set -euo pipefail; \
	if [ -e runs/demo ]; then \
	  n=1; while [ -e "runs/demo.$$n" ]; do n=$$((n + 1)); done; \
	  mv runs/demo "runs/demo.$$n"; echo "moved the earlier runs/demo to runs/demo.$$n"; \
	fi; \
	timeout --foreground -s INT 900 \
	  $(BIN)/rl_nodes launch train task:=reach robot:=arm algorithm:=sac run_dir:=runs/demo; \
	timeout --foreground -s INT 300 \
	  $(BIN)/rl_nodes launch deploy policy:=runs/demo/policy.onnx; \
	$(BIN)/rl_nodes render $$(ls runs/demo/deploy/episodes/*.mcap | head -n 4) \
	  output:=runs/demo/rollout.gif; \
	echo; \
	echo "policy            runs/demo/policy.onnx (inspect its manifest beside it)"; \
	echo "learning curve    runs/demo/learning_curve.png, summary.md, tensorboard/"; \
	echo "evaluation        runs/demo/deploy/report.json"; \
	echo "episodes (MCAP)   runs/demo/episodes/ and runs/demo/deploy/episodes/"; \
	echo "moving picture    runs/demo/rollout.gif"

# Graphs keep time, so they have the machine to themselves; the rest takes every core.
test: lint types
	$(BIN)/python -m pytest $(QUICK_TESTS) --ignore test/ros -n auto $(PYTEST_ARGS)
	$(BIN)/python -m pytest $(QUICK_TESTS) test/ros $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

test-learning: $(READY)
	$(BIN)/python -m pytest -m learning --timeout 7200 $(PYTEST_ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python test/learning/results.py $(TASKS) \
	  $(if $(SEEDS),--seeds $(SEEDS))

faults: $(READY)
	$(BIN)/python test/faults/campaign.py $(FAULTS_ARGS) $(PRIORITY_ARG)

soak: $(READY)
	$(BIN)/python -m pytest -m 'soak or slow' --timeout 0 $(PYTEST_ARGS)
	$(BIN)/python test/faults/campaign.py --trials 3000 --together --steps 1000000 --learn 100000 \
	  $(PRIORITY_ARG)
	$(BIN)/python test/faults/false_stops.py $(PRIORITY_ARG)

coverage: $(READY)
	$(BIN)/python -m coverage run --branch --source rl_nodes/safety -m pytest -q \
	  test/unit/safety -m 'not soak' -k 'not million'
	$(BIN)/python -m coverage report --show-missing --fail-under 100

bench: $(READY)
	@set -euo pipefail; shopt -s nullglob; \
	for file in benchmarks/[a-z]*.py; do \
	  name=$$(basename "$$file" .py); echo "== $$name"; \
	  $(BIN)/python -m "benchmarks.$$name" $(if $(QUICK),--quick); \
	done

# runs/ holds results and is left alone.
clean:
	rm -rf $(VENV) build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find rl_nodes test benchmarks launch -name __pycache__ -type d -prune -exec rm -rf {} +
