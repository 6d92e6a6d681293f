// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0

#include "control_loop.hpp"

#include <geometry_msgs/msg/pose_array.h>
#include <geometry_msgs/msg/pose_stamped.h>
#include <geometry_msgs/msg/wrench_stamped.h>
#include <nav_msgs/msg/odometry.h>
#include <pthread.h>
#include <rcl/error_handling.h>
#include <rcutils/types/uint8_array.h>
#include <rmw/qos_profiles.h>
#include <rosidl_runtime_c/message_type_support_struct.h>
#include <sched.h>
#include <sensor_msgs/msg/imu.h>
#include <sensor_msgs/msg/joint_state.h>
#include <sensor_msgs/msg/laser_scan.h>
#include <sys/mman.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace rl_nodes
{

namespace
{

constexpr int64_t kSecond = 1000000000;
constexpr size_t kRoom = 16384;  // bytes kept for a message; a larger one makes it grow once

int64_t now_ns()
{
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

const rosidl_message_type_support_t * type_of(Topic topic)
{
  switch (topic) {
    case Topic::kGoal: return ROSIDL_GET_MSG_TYPE_SUPPORT(geometry_msgs, msg, PoseStamped);
    case Topic::kBase: return ROSIDL_GET_MSG_TYPE_SUPPORT(nav_msgs, msg, Odometry);
    case Topic::kRanges: return ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, LaserScan);
    case Topic::kObjects: return ROSIDL_GET_MSG_TYPE_SUPPORT(geometry_msgs, msg, PoseArray);
    case Topic::kImu: return ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, Imu);
    case Topic::kWrench: return ROSIDL_GET_MSG_TYPE_SUPPORT(geometry_msgs, msg, WrenchStamped);
    default: return ROSIDL_GET_MSG_TYPE_SUPPORT(sensor_msgs, msg, JointState);
  }
}

void check(rcl_ret_t code, const std::string & what)
{
  if (code != RCL_RET_OK) {
    std::string text = what + ": " + rcl_get_error_string().str;
    rcl_reset_error();
    throw std::runtime_error(text);
  }
}

rmw_qos_profile_t profile(size_t depth, bool latched)
{
  rmw_qos_profile_t qos = rmw_qos_profile_default;  // reliable, keep last
  qos.depth = depth;
  qos.durability =
    latched ? RMW_QOS_POLICY_DURABILITY_TRANSIENT_LOCAL : RMW_QOS_POLICY_DURABILITY_VOLATILE;
  return qos;
}

// What is being let go of may fail in ways that nobody can do anything about.
void let_go(rcl_ret_t) {}

void on_message(const void * semaphore, size_t)
{
  sem_post(static_cast<sem_t *>(const_cast<void *>(semaphore)));
}

}  // namespace

ControlLoop::ControlLoop(
  rcl_node_t * node, Plan plan, const std::vector<TopicName> & inputs, const std::string & output,
  size_t output_depth, LoopOptions options)
: node_(node), controller_(std::move(plan)), options_(std::move(options)),
  publisher_(rcl_get_zero_initialized_publisher()),
  incoming_(rcutils_get_zero_initialized_uint8_array()),
  outgoing_(rcutils_get_zero_initialized_uint8_array())
{
  auto allocator = rcutils_get_default_allocator();
  sem_init(&awake_, 0, 0);
  refusal_.reserve(256);
  try {
    if (rcutils_uint8_array_init(&incoming_, kRoom, &allocator) != RCUTILS_RET_OK) {
      throw std::runtime_error("no memory for messages");
    }
    rcl_publisher_options_t out = rcl_publisher_get_default_options();
    out.qos = profile(output_depth, false);
    check(
      rcl_publisher_init(&publisher_, node_, type_of(Topic::kStates), output.c_str(), &out),
      output);
    for (const TopicName & name : inputs) {
      auto input = std::make_unique<Input>(
        Input{name.topic, rcl_get_zero_initialized_subscription()});
      rcl_subscription_options_t in = rcl_subscription_get_default_options();
      in.qos = profile(name.depth, name.latched);
      const rcl_ret_t made = rcl_subscription_init(
        &input->subscription, node_, type_of(name.topic), name.name.c_str(), &in);
      check(rcl_subscription_options_fini(&in), name.name);
      check(made, name.name);
      inputs_.push_back(std::move(input));
      if (!options_.busy_poll && options_.fixed_period_ns == 0) {
        check(
          rcl_subscription_set_on_new_message_callback(
            &inputs_.back()->subscription, on_message, &awake_), name.name);
      }
    }
  } catch (...) {
    release_entities();
    throw;
  }
}

ControlLoop::~ControlLoop()
{
  stop();
  release_entities();
  delete current_;
  delete next_.exchange(nullptr);
  delete retired_.exchange(nullptr);
}

void ControlLoop::release_entities()
{
  for (auto & input : inputs_) {
    let_go(rcl_subscription_set_on_new_message_callback(&input->subscription, nullptr, nullptr));
    let_go(rcl_subscription_fini(&input->subscription, node_));
  }
  inputs_.clear();
  let_go(rcl_publisher_fini(&publisher_, node_));
  let_go(rcutils_uint8_array_fini(&incoming_));
  rcl_reset_error();
  sem_destroy(&awake_);
}

void ControlLoop::start()
{
  if (!thread_.joinable()) {
    stopping_ = false;
    thread_ = std::thread(&ControlLoop::run, this);
  }
}

void ControlLoop::stop()
{
  if (thread_.joinable()) {
    stopping_ = true;
    sem_post(&awake_);
    thread_.join();
  }
}

void ControlLoop::set_policy(std::shared_ptr<Policy> policy)
{
  auto chosen = std::make_unique<Chosen>();
  chosen->answers = controller_.prepare(policy->label);
  chosen->policy = std::move(policy);
  delete next_.exchange(chosen.release());
  delete retired_.exchange(nullptr);
  sem_post(&awake_);  // a state may be waiting for its first policy
}

std::string ControlLoop::refusal() const
{
  const std::lock_guard<std::mutex> lock(words_);
  return refusal_;
}

std::vector<std::string> ControlLoop::denied() const
{
  const std::lock_guard<std::mutex> lock(words_);
  return denied_;
}

// --- the thread ------------------------------------------------------------------------------

void ControlLoop::run()
{
  configure_thread();
  int64_t due = now_ns();
  while (!stopping_) {
    if (options_.fixed_period_ns > 0) {
      due = sleep_until_due(due + options_.fixed_period_ns);
    } else if (!options_.busy_poll) {
      while (sem_wait(&awake_) != 0 && errno == EINTR) {
      }
    }
    drain();
  }
}

// Sleep until an absolute time; return the deadline that counts from here on.
int64_t ControlLoop::sleep_until_due(int64_t due_ns)
{
  const timespec due{due_ns / kSecond, due_ns % kSecond};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) == EINTR) {
  }
  const int64_t late = now_ns() - due_ns;
  lateness.add(late);
  if (late < options_.fixed_period_ns) {
    return due_ns;
  }
  const int64_t missed = late / options_.fixed_period_ns;
  misses += static_cast<uint64_t>(missed);
  return due_ns + missed * options_.fixed_period_ns;  // no burst to make up for it
}

void ControlLoop::configure_thread()
{
  const auto deny = [this](const std::string & what, int error) {
      if (error != 0) {
        const std::lock_guard<std::mutex> lock(words_);
        denied_.push_back(what + ": " + std::strerror(error));
      }
    };
  pthread_setname_np(pthread_self(), "control");
  if (options_.lock_memory) {
    deny("lock_memory", mlockall(MCL_CURRENT | MCL_FUTURE) == 0 ? 0 : errno);
  }
  if (!options_.cpus.empty()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu : options_.cpus) {
      CPU_SET(cpu, &set);
    }
    deny("cpus", pthread_setaffinity_np(pthread_self(), sizeof(set), &set));
  }
  if (options_.priority > 0) {
    const sched_param parameters{options_.priority};
    deny("priority", pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters));
  }
}

void ControlLoop::drain()
{
  adopt();
  const bool fixed = options_.fixed_period_ns > 0;
  int64_t complete_ns = 0;
  if (current_ != nullptr && controller_.stamp() != 0) {
    answer(now_ns());
  }
  for (auto & input : inputs_) {
    while (rcl_take_serialized_message(&input->subscription, &incoming_, nullptr, nullptr) ==
      RCL_RET_OK)
    {
      const int64_t taken = now_ns();
      if (controller_.take(input->topic, incoming_.buffer, incoming_.buffer_length)) {
        complete_ns = taken;
        if (!fixed) {
          answer(taken);
        }
      }
    }
    rcl_reset_error();
  }
  if (fixed) {
    if (complete_ns != 0) {
      answer(complete_ns);
    } else {
      ++idle;
    }
  }
  uint64_t count = 0;
  for (size_t i = 0; i < refused.size(); ++i) {
    refused[i].store(controller_.refused[i], std::memory_order_relaxed);
    count += controller_.refused[i];
  }
  if (count != told_ && words_.try_lock()) {  // never waits for who reads it
    refusal_ = controller_.refusal;
    told_ = count;
    words_.unlock();
  }
}

void ControlLoop::answer(int64_t taken_ns)
{
  const int64_t begun = now_ns();
  const std::vector<uint8_t> * bytes =
    controller_.answer(current_ == nullptr ? nullptr : current_->policy.get());
  if (bytes == nullptr) {
    return;
  }
  const int64_t computed = now_ns();
  outgoing_.buffer = const_cast<uint8_t *>(bytes->data());
  outgoing_.buffer_length = outgoing_.buffer_capacity = bytes->size();
  if (rcl_publish_serialized_message(&publisher_, &outgoing_, nullptr) != RCL_RET_OK) {
    rcl_reset_error();
    ++publish_failed;
    return;
  }
  const int64_t published = now_ns();
  timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  age.add(
    wall.tv_sec * kSecond + wall.tv_nsec - controller_.answered() - (published - taken_ns));
  queue.add(begun - taken_ns);
  inference.add(computed - begun);
  publish.add(published - computed);
  total.add(published - taken_ns);
  ++answered;
}

// Take over a newer policy; the old one waits for another thread to release it.
void ControlLoop::adopt()
{
  Chosen * next = next_.exchange(nullptr);
  if (next == nullptr) {
    return;
  }
  controller_.use(&next->answers);
  if (current_ != nullptr) {
    ++swaps;
    delete retired_.exchange(current_);
  }
  current_ = next;
}

}  // namespace rl_nodes
