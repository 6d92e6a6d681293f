// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// What a policy is shown of a state: the part of the tick that tasks/observer.py is in Python.

#include <algorithm>
#include <cmath>

#include "controller.hpp"

namespace rl_nodes
{

bool Controller::observe(const State & state, const Goal & goal, bool ordered)
{
  const size_t width = plan_.frame.size();
  float * last = frames_.data() + width * (plan_.depth - 1);
  const int64_t since = state.stamp - newest_;
  if (state.number != episode_number_ || state.start != episode_start_) {
    frame(state, goal, none_, last);
    for (float * place = frames_.data(); place != last; place += width) {
      std::copy_n(last, width, place);
    }
    episode_number_ = state.number;
    episode_start_ = state.start;
    newest_ = state.stamp;
    before_ = action_ = none_;
  } else if (since > 0) {
    const auto shift = [&] {std::copy(frames_.begin() + width, frames_.end(), frames_.begin());};
    // Those of states that never came repeat the one before.
    const auto periods = static_cast<int64_t>(
      std::nearbyint(static_cast<double>(since) / static_cast<double>(plan_.period_ns)));
    for (int64_t i = std::min<int64_t>(std::max<int64_t>(0, periods - 1), plan_.depth); i > 0; --i)
    {
      shift();
      for (size_t k = 0; k < plan_.actions.size(); ++k) {
        last[plan_.actions[k]] = action_[k % action_.size()];
      }
    }
    shift();
    frame(state, goal, action_, last);
    before_ = action_;
  } else if (since == 0) {
    frame(state, goal, before_, last);
  } else if (ordered || plan_.depth > 1 || !plan_.actions.empty()) {
    refuse(Reason::kOutOfOrder, "a state came after a newer one, and their order matters");
    return false;
  } else {
    frame(state, goal, none_, last);
  }
  newest_ = std::max(newest_, state.stamp);
  for (size_t i = 0; i < plan_.places.size(); ++i) {
    observation_[i] = frames_[plan_.places[i]];
    if (!std::isfinite(observation_[i])) {
      refuse(Reason::kNotFinite, "the observation is not finite");
      return false;
    }
  }
  return true;
}

void Controller::frame(
  const State & state, const Goal & goal, const std::vector<float> & last, float * out)
{
  std::array<double, 3> tip{};
  if (!plan_.chain.empty()) {
    tip = tool(state);
  }
  const double qx = state.body[3], qy = state.body[4], qz = state.body[5], qw = state.body[6];
  // The third row of the base's rotation, negated: where down is in its axes.
  const double down[] = {
    -(2 * (qx * qz - qw * qy)), -(2 * (qy * qz + qw * qx)), -(1 - 2 * (qx * qx + qy * qy))};
  const int64_t cycle = plan_.cycle_ns, since = (state.stamp - state.start) % cycle;
  const double phase = 2 * M_PI * (static_cast<double>((since + cycle) % cycle) / cycle);
  for (size_t i = 0; i < plan_.frame.size(); ++i) {
    const int k = plan_.frame[i].index;
    double value = 0.0;
    if (plan_.frame[i].source == Source::kPlanarGoal) {
      const double x = goal.position[0] - state.body[0], y = goal.position[1] - state.body[1];
      const double ax = 1 - 2 * (qy * qy + qz * qz), ay = 2 * (qx * qy + qw * qz);
      const double angle = std::atan2(ax * y - ay * x, ax * x + ay * y);
      value = k == 0 ? std::hypot(x, y) : k == 1 ? std::sin(angle) : std::cos(angle);
    }
    switch (plan_.frame[i].source) {
      case Source::kPosition: value = state.position[k]; break;
      case Source::kVelocity: value = state.velocity[k]; break;
      case Source::kSin: value = std::sin(state.position[k]); break;
      case Source::kCos: value = std::cos(state.position[k]); break;
      case Source::kTool: value = tip[k]; break;
      case Source::kGoal: value = goal.position[k]; break;
      case Source::kGoalOffset: value = goal.position[k] - tip[k]; break;
      case Source::kGravity: value = down[k]; break;
      case Source::kBasePosition: value = state.body[k]; break;
      case Source::kBaseLinear: value = state.body[7 + k]; break;
      case Source::kBaseAngular: value = state.body[10 + k]; break;
      case Source::kRange: value = state.scan[k]; break;
      case Source::kObject: value = state.poses[k]; break;
      case Source::kLastAction: value = last[k]; break;
      case Source::kPlanarGoal: break;
      case Source::kLogRange: value = std::log(std::max(state.scan[k], plan_.nearest)); break;
      case Source::kPhase: value = k == 0 ? std::sin(phase) : std::cos(phase); break;
      case Source::kImu: value = state.inertial[k]; break;
      case Source::kWrench: value = state.exerted[k]; break;
      case Source::kObjectFromTool: value = state.poses[k] - tip[k % 7]; break;
      case Source::kObjectFromGoal: value = state.poses[k] - goal.position[k % 7]; break;
    }
    out[i] = static_cast<float>(value);
  }
}

// Rodrigues' formula from the tool's frame to the base's, in the order of core/kinematics.py.
std::array<double, 3> Controller::tool(const State & state) const
{
  double x = plan_.tip[0], y = plan_.tip[1], z = plan_.tip[2];
  for (const Segment & segment : plan_.chain) {
    const double q = state.position[segment.joint];
    const double * o = segment.numbers.data(), * a = o + 3, * b = a + 9, * c = b + 9;
    std::array<double, 3> next{};
    const double sine = segment.sliding ? 0.0 : std::sin(q);
    const double cosine = segment.sliding ? 0.0 : std::cos(q);
    for (int row = 0; row < 3; ++row) {
      const int k = 3 * row;
      next[row] = segment.sliding ?
        o[row] + b[row] * q + a[k] * x + a[k + 1] * y + a[k + 2] * z :
        o[row] + (a[k] + sine * b[k] - cosine * c[k]) * x +
        (a[k + 1] + sine * b[k + 1] - cosine * c[k + 1]) * y +
        (a[k + 2] + sine * b[k + 2] - cosine * c[k + 2]) * z;
    }
    x = next[0];
    y = next[1];
    z = next[2];
  }
  return {x, y, z};
}

}  // namespace rl_nodes
