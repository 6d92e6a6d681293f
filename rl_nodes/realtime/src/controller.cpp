// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0

#include "controller.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "cdr.hpp"

namespace rl_nodes
{

namespace
{

constexpr int64_t kSecond = 1000000000;

int64_t read_stamp(CdrReader & reader)
{
  const int64_t seconds = reader.value<int32_t>();
  return seconds * kSecond + reader.value<uint32_t>();
}

bool finite(const double * values, size_t count)
{
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) {
      return false;
    }
  }
  return true;
}

struct NotFinite : BadMessage
{
  using BadMessage::BadMessage;
};

// "<number>@<start ns>"
void read_episode(std::string_view text, int64_t & number, int64_t & start)
{
  const size_t at = text.find('@');
  const char * end = text.data() + text.size();
  if (at != std::string_view::npos) {
    const char * middle = text.data() + at;
    const auto first = std::from_chars(text.data(), middle, number);
    const auto second = std::from_chars(middle + 1, end, start);
    if (first.ec == std::errc() && first.ptr == middle && second.ec == std::errc() &&
      second.ptr == end)
    {
      return;
    }
  }
  throw BadMessage("joint_states: frame_id is not an episode id");
}

}  // namespace

Controller::Controller(Plan plan)
: plan_(std::move(plan)), states_(kKept)
{
  const size_t joints = plan_.joints.size(), width = plan_.frame.size();
  for (State & state : states_) {
    state.position.resize(joints);
    state.velocity.resize(joints);
    state.scan.resize(plan_.ranges);
    state.poses.resize(7 * plan_.objects);
  }
  refusal.reserve(256);
  named_.reserve(256);
  order_.reserve(256);
  scratch_.resize(256);
  command_.assign(plan_.commanded.size(), 0.0);
  none_.assign(plan_.commanded.size(), 0.0F);
  before_ = action_ = none_;
  frames_.assign(width * plan_.depth, 0.0F);
  observation_.assign(plan_.places.size(), 0.0F);
}

bool Controller::take(Topic topic, const uint8_t * data, size_t size)
{
  try {
    switch (topic) {
      case Topic::kStates: read_states(data, size); break;
      case Topic::kGoal: read_goal(data, size); return waiting_;
      case Topic::kBase: read_base(data, size); break;
      case Topic::kRanges: read_ranges(data, size); break;
      case Topic::kObjects: read_objects(data, size); break;
      case Topic::kImu: read_imu(data, size); break;
      case Topic::kWrench: read_wrench(data, size); break;
    }
  } catch (const NotFinite & error) {
    refuse(Reason::kNotFinite, error.what());
    return false;
  } catch (const BadMessage & error) {
    refuse(Reason::kMalformed, error.what());
    return false;
  }
  return current_ != nullptr;
}

Controller::Answers Controller::prepare(const std::string & label) const
{
  CdrWriter writer;
  writer.value(int32_t{0});
  writer.value(uint32_t{0});
  writer.string(label);
  writer.value(static_cast<uint32_t>(plan_.commanded.size()));
  for (const std::string & name : plan_.commanded) {
    writer.string(name);
  }
  Answers answers;
  for (Field field : {Field::kPosition, Field::kVelocity, Field::kEffort}) {
    const size_t at = writer.doubles(field == plan_.field ? plan_.commanded.size() : 0);
    if (field == plan_.field) {
      answers.values = at;
    }
  }
  answers.bytes = std::move(writer.bytes);
  return answers;
}

const std::vector<uint8_t> * Controller::answer(Policy * policy)
{
  if (current_ == nullptr) {
    return nullptr;
  }
  State & state = *current_;
  if (!complete(state)) {  // it waited for so long that its place was taken
    current_ = nullptr;
    return nullptr;
  }
  if (answered_ == state.stamp && answers_ != nullptr) {
    current_ = nullptr;
    return &answers_->bytes;  // asked again: the same answer
  }
  const Goal * goal = goal_of(state);
  waiting_ = goal == nullptr;
  if (waiting_) {  // the goal of a new episode is still on its way
    return nullptr;
  }
  current_ = nullptr;
  const bool remembers = policy != nullptr && policy->remembers();
  if (!observe(state, *goal, remembers) || policy == nullptr || answers_ == nullptr) {
    return nullptr;
  }
  policy->enter(state.number, state.start);
  policy->observation = observation_;  // same size: copies without allocating
  if (!policy->run()) {
    refuse(Reason::kPolicy, "the policy failed, or answered with what is not finite");
    return nullptr;
  }
  command(state, policy->action, command_.data());
  to_action(state, command_.data(), action_);
  std::memcpy(
    answers_->bytes.data() + answers_->values, command_.data(),
    command_.size() * sizeof(double));
  const auto seconds = static_cast<int32_t>(state.stamp / kSecond);
  const auto rest = static_cast<uint32_t>(state.stamp % kSecond);
  std::memcpy(answers_->bytes.data() + kEncapsulation, &seconds, sizeof(seconds));
  std::memcpy(
    answers_->bytes.data() + kEncapsulation + sizeof(seconds), &rest, sizeof(rest));
  answered_ = state.stamp;
  return &answers_->bytes;
}

// --- what an action means, see tasks/actions.py and tasks/planar_action.py --------------------

void Controller::command(
  const State & state, const std::vector<float> & action, double * out) const
{
  const auto clipped = [&action](size_t i) {
      return std::max(std::min(static_cast<double>(action[i]), 1.0), -1.0);
    };
  if (!plan_.turn.empty()) {
    const double forward = clipped(0), turn = clipped(1);
    const double scale = std::max(1.0, std::abs(forward) + std::abs(turn));
    for (size_t i = 0; i < plan_.size.size(); ++i) {
      out[i] = (forward + turn * plan_.turn[i]) / scale * plan_.size[i];
    }
    return;
  }
  for (size_t i = 0; i < plan_.size.size(); ++i) {
    const double origin =
      plan_.relative ? state.position[plan_.command_index[i]] : plan_.origin[i];
    out[i] = origin + clipped(i) * plan_.size[i];
  }
}

void Controller::to_action(
  const State & state, const double * command, std::vector<float> & out) const
{
  if (!plan_.turn.empty()) {
    const double first = command[0] / plan_.size[0], second = command[1] / plan_.size[1];
    out[0] = static_cast<float>((first + second) / 2);
    out[1] = static_cast<float>((first * plan_.turn[0] + second * plan_.turn[1]) / 2);
    return;
  }
  for (size_t i = 0; i < plan_.size.size(); ++i) {
    const double origin =
      plan_.relative ? state.position[plan_.command_index[i]] : plan_.origin[i];
    out[i] = static_cast<float>((command[i] - origin) / plan_.size[i]);
  }
}

// --- what arrives ----------------------------------------------------------------------------

void Controller::read_states(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  const int64_t stamp = read_stamp(reader);
  int64_t number = 0, start = 0;
  read_episode(reader.string(), number, start);
  const auto count = reader.value<uint32_t>();
  if (count < plan_.joints.size() || count > scratch_.size()) {
    throw BadMessage("joint_states: a joint is missing, or there are far too many");
  }
  named_.clear();
  for (uint32_t i = 0; i < count; ++i) {
    named_.push_back(reader.string());
  }
  order_.clear();
  for (size_t i = 0; i < plan_.joints.size(); ++i) {
    size_t at = i < count && named_[i] == plan_.joints[i] ? i : count;
    for (size_t other = 0; other < count; ++other) {
      if (other != at && named_[other] == plan_.joints[i]) {
        if (at != count) {
          throw BadMessage("joint_states: a joint is named twice");
        }
        at = other;
      }
    }
    if (at == count) {
      throw BadMessage("joint_states: a joint is missing");
    }
    order_.push_back(static_cast<int>(at));
  }
  State & state = slot(stamp);
  state.joints = false;
  for (std::vector<double> * into : {&state.position, &state.velocity}) {
    if (reader.value<uint32_t>() != count) {
      throw BadMessage("joint_states: names, positions and velocities differ in number");
    }
    reader.values(scratch_.data(), count);
    for (size_t i = 0; i < order_.size(); ++i) {
      (*into)[i] = scratch_[order_[i]];
    }
  }
  if (!finite(state.position.data(), state.position.size()) ||
    !finite(state.velocity.data(), state.velocity.size()))
  {
    throw NotFinite("joint_states is not finite");
  }
  state.number = number;
  state.start = start;
  arrived(state, state.joints);
}

void Controller::read_goal(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  Goal goal;
  goal.stamp = read_stamp(reader);
  reader.string();
  reader.values(goal.position.data(), goal.position.size());
  if (!finite(goal.position.data(), goal.position.size())) {
    throw NotFinite("goal is not finite");
  }
  for (const Goal & known : goals_) {
    if (known.stamp == goal.stamp) {
      return;
    }
  }
  goals_[next_goal_] = goal;
  next_goal_ = (next_goal_ + 1) % goals_.size();
}

void Controller::read_base(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  const int64_t stamp = read_stamp(reader);
  reader.string();
  reader.string();
  std::array<double, 13> body{};
  reader.values(body.data(), 7);
  reader.skip<double>(36);
  reader.values(body.data() + 7, 6);
  if (!finite(body.data(), body.size())) {
    throw NotFinite("odom is not finite");
  }
  State & state = slot(stamp);
  state.body = body;
  arrived(state, state.base);
}

void Controller::read_ranges(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  const int64_t stamp = read_stamp(reader);
  reader.string();
  reader.skip<float>(7);
  if (reader.value<uint32_t>() != static_cast<uint32_t>(plan_.ranges)) {
    throw BadMessage("scan: not the number of rays of this robot");
  }
  State & state = slot(stamp);
  state.ranges = false;
  for (double & range : state.scan) {
    range = reader.value<float>();
  }
  if (!finite(state.scan.data(), state.scan.size())) {
    throw NotFinite("scan is not finite");
  }
  arrived(state, state.ranges);
}

void Controller::read_objects(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  const int64_t stamp = read_stamp(reader);
  reader.string();
  if (reader.value<uint32_t>() != static_cast<uint32_t>(plan_.objects)) {
    throw BadMessage("objects: not the number of objects of this task");
  }
  State & state = slot(stamp);
  state.objects = false;
  reader.values(state.poses.data(), state.poses.size());
  if (!finite(state.poses.data(), state.poses.size())) {
    throw NotFinite("objects is not finite");
  }
  arrived(state, state.objects);
}

void Controller::read_imu(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  const int64_t stamp = read_stamp(reader);
  reader.string();
  std::array<double, 10> inertial{};
  double covariance[9];
  const size_t starts[] = {0, 4, 7, 10};  // orientation, rate, acceleration
  for (int part = 0; part < 3; ++part) {
    reader.values(inertial.data() + starts[part], starts[part + 1] - starts[part]);
    reader.values(covariance, 9);
    if (covariance[0] == -1.0) {
      throw BadMessage("imu: something is not measured, its covariance begins with -1");
    }
  }
  if (!finite(inertial.data(), inertial.size())) {
    throw NotFinite("imu is not finite");
  }
  State & state = slot(stamp);
  state.inertial = inertial;
  arrived(state, state.imu);
}

void Controller::read_wrench(const uint8_t * data, size_t size)
{
  CdrReader reader(data, size);
  const int64_t stamp = read_stamp(reader);
  reader.string();
  std::array<double, 6> exerted{};
  reader.values(exerted.data(), exerted.size());
  if (!finite(exerted.data(), exerted.size())) {
    throw NotFinite("wrench is not finite");
  }
  State & state = slot(stamp);
  state.exerted = exerted;
  arrived(state, state.wrench);
}

void Controller::arrived(State & state, bool & part)
{
  part = true;
  if (complete(state)) {
    current_ = &state;
  }
}

// The place of a stamp: where it is already, else where the oldest is.
Controller::State & Controller::slot(int64_t stamp)
{
  State * oldest = &states_[0];
  for (State & state : states_) {
    if (state.stamp == stamp) {
      return state;
    }
    if (state.stamp < oldest->stamp) {
      oldest = &state;
    }
  }
  oldest->stamp = stamp;
  oldest->joints = oldest->base = oldest->ranges = oldest->objects = oldest->imu =
    oldest->wrench = false;
  return *oldest;
}

bool Controller::complete(const State & state) const
{
  return state.joints && (state.base || !plan_.base) && (state.ranges || plan_.ranges == 0) &&
         (state.objects || plan_.objects == 0) && (state.imu || !plan_.imu) &&
         (state.wrench || !plan_.wrench);
}

// The newest goal stamped within the state's episode up to the state.
const Controller::Goal * Controller::goal_of(const State & state) const
{
  const Goal * found = nullptr;
  for (const Goal & goal : goals_) {
    if (goal.stamp >= state.start && goal.stamp <= state.stamp &&
      (found == nullptr || goal.stamp > found->stamp))
    {
      found = &goal;
    }
  }
  return found;
}

void Controller::refuse(Reason reason, const char * text)
{
  ++refused[static_cast<size_t>(reason)];
  refusal = text;  // room was reserved
}

}  // namespace rl_nodes
