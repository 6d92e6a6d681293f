// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// From serialized states to serialized commands: the control tick, without ROS and threads.
//
// The same rules as rl_nodes/nodes/policy_client.py, rl_nodes/tasks/observer.py and
// rl_nodes/tasks/actions.py; a test compares the two bit by bit. Memory is taken when a controller
// or a policy is made, none while it answers.

#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy.hpp"

namespace rl_nodes
{

// Where one element of a frame comes from; names and numbers are those of plan.py.
enum class Source : int
{
  kPosition, kVelocity, kSin, kCos, kTool, kGoal, kGoalOffset, kGravity, kBasePosition,
  kBaseLinear, kBaseAngular, kRange, kObject, kLastAction, kPlanarGoal,
  kObjectFromTool, kObjectFromGoal, kLogRange, kPhase, kImu, kWrench,
};

struct Element
{
  Source source;
  int index;
};

// One movable joint of the chain to the tool, from the tool to the base; see core/kinematics.py.
struct Segment
{
  int joint;
  bool sliding;
  std::vector<double> numbers;
};

enum class Field : int {kPosition, kVelocity, kEffort};

// Everything a controller must know of a robot doing a task; made by plan.py.
struct Plan
{
  std::vector<std::string> joints;     // J measured joints in order
  std::vector<std::string> commanded;  // A of them
  std::vector<int> command_index;      // of each commanded joint among the joints
  Field field = Field::kPosition;      // of the command
  bool relative = false;               // commands are relative to the present position
  std::vector<double> origin;          // else to this, (A,)
  std::vector<double> size;            // of an action of 1, (A,)
  std::vector<double> turn;            // of two wheels, see tasks/planar_action.py; else empty
  std::vector<Element> frame;          // F
  std::vector<int> places;             // O: of each observed element in `depth` frames
  int depth = 1;
  std::vector<int> actions;            // elements of the frame that repeat the last action
  int64_t period_ns = 0;
  std::vector<Segment> chain;
  std::array<double, 3> tip{};
  bool base = false;
  int ranges = 0;
  int objects = 0;
  bool imu = false;
  bool wrench = false;
  int64_t cycle_ns = 1;  // of the gait
  double nearest = 0.0;  // range below which a logarithm stays the same
};

enum class Topic : int {kStates, kGoal, kBase, kRanges, kObjects, kImu, kWrench};
constexpr int kTopics = 7;

// Why messages were dropped.
enum class Reason : int {kMalformed, kNotFinite, kOutOfOrder, kPolicy};
constexpr int kReasons = 4;

class Controller
{
public:
  explicit Controller(Plan plan);

  // Take a message; true where a state is complete now and may be answered.
  bool take(Topic topic, const uint8_t * data, size_t size);

  // Answer the state that is complete; null where there is nothing to say yet. The answer is
  // valid until the next call.
  const std::vector<uint8_t> * answer(Policy * policy);

  // A policy's answers carry its label: make room for them, not on the control thread.
  struct Answers
  {
    std::vector<uint8_t> bytes;
    size_t values = 0;
  };
  Answers prepare(const std::string & label) const;
  void use(Answers * answers)
  {
    answers_ = answers;
    answered_ = -1;
  }

  int64_t stamp() const {return current_ ? current_->stamp : 0;}
  int64_t answered() const {return answered_;}  // stamp of the state answered last
  const std::vector<float> & observation() const {return observation_;}
  std::array<uint64_t, kReasons> refused{};
  std::string refusal;  // the last one, in words

private:
  static constexpr size_t kKept = 32;  // states and goals waiting for each other

  struct State
  {
    int64_t stamp = -1;
    int64_t number = 0;
    int64_t start = 0;
    bool joints = false, base = false, ranges = false, objects = false, imu = false,
      wrench = false;
    std::vector<double> position, velocity, scan, poses;
    std::array<double, 13> body{};
    std::array<double, 10> inertial{};
    std::array<double, 6> exerted{};
  };

  struct Goal
  {
    int64_t stamp = -1;
    std::array<double, 3> position{};
  };

  void read_states(const uint8_t * data, size_t size);
  void read_goal(const uint8_t * data, size_t size);
  void read_base(const uint8_t * data, size_t size);
  void read_ranges(const uint8_t * data, size_t size);
  void read_objects(const uint8_t * data, size_t size);
  void read_imu(const uint8_t * data, size_t size);
  void read_wrench(const uint8_t * data, size_t size);
  State & slot(int64_t stamp);
  void arrived(State & state, bool & part);
  bool complete(const State & state) const;
  const Goal * goal_of(const State & state) const;
  bool observe(const State & state, const Goal & goal, bool ordered);
  void frame(const State & state, const Goal & goal, const std::vector<float> & last, float * out);
  std::array<double, 3> tool(const State & state) const;
  void command(const State & state, const std::vector<float> & action, double * out) const;
  void to_action(const State & state, const double * command, std::vector<float> & out) const;
  void refuse(Reason reason, const char * text);

  Plan plan_;
  std::vector<State> states_;
  std::array<Goal, kKept> goals_{};
  size_t next_goal_ = 0;
  State * current_ = nullptr;
  bool waiting_ = false;
  int64_t answered_ = -1;
  Answers * answers_ = nullptr;
  std::vector<int> order_;               // of the last message's joints, ours by theirs
  std::vector<std::string_view> named_;  // scratch
  std::vector<double> scratch_, command_;
  // What is remembered between states, see tasks/observer.py.
  std::vector<float> frames_, observation_, before_, action_, none_;
  int64_t episode_number_ = -1, episode_start_ = -1, newest_ = 0;
};

}  // namespace rl_nodes
