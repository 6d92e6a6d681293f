// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// A controller on ROS topics, in a thread of its own that never touches the interpreter.

#pragma once

#include <rcl/node.h>
#include <rcl/publisher.h>
#include <rcl/subscription.h>
#include <semaphore.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "controller.hpp"
#include "policy.hpp"

namespace rl_nodes
{

struct TopicName
{
  Topic topic;
  std::string name;
  size_t depth;
  bool latched;
};

struct LoopOptions
{
  int64_t fixed_period_ns = 0;  // 0: answer each state when it comes
  bool busy_poll = false;       // look without pause: less latency for a whole core
  int priority = 0;             // SCHED_FIFO, 1 to 99; 0: the usual scheduling
  std::vector<int> cpus;        // that the thread may run on; empty: all
  bool lock_memory = false;     // nothing of the process is ever swapped out
};

// The newest durations of one kind [s]; written by the loop, read by anybody.
class Durations
{
public:
  static constexpr size_t kKept = 4096;

  void add(int64_t ns) noexcept
  {
    const uint64_t at = count_.load(std::memory_order_relaxed);
    values_[at % kKept].store(static_cast<float>(ns * 1e-9), std::memory_order_relaxed);
    count_.store(at + 1, std::memory_order_release);
  }

  uint64_t count() const noexcept {return count_.load(std::memory_order_acquire);}

  std::vector<float> values() const
  {
    std::vector<float> kept(std::min<uint64_t>(count(), kKept));
    for (size_t i = 0; i < kept.size(); ++i) {
      kept[i] = values_[i].load(std::memory_order_relaxed);
    }
    return kept;
  }

private:
  std::array<std::atomic<float>, kKept> values_{};
  std::atomic<uint64_t> count_{0};
};

class ControlLoop
{
public:
  // `node` stays the caller's and must outlive the loop.
  ControlLoop(
    rcl_node_t * node, Plan plan, const std::vector<TopicName> & inputs,
    const std::string & output, size_t output_depth, LoopOptions options);
  ~ControlLoop();
  ControlLoop(const ControlLoop &) = delete;
  ControlLoop & operator=(const ControlLoop &) = delete;

  void start();
  void stop();

  // The policy takes over between two states; what it replaces is released by this thread.
  void set_policy(std::shared_ptr<Policy> policy);

  Durations age;        // of a state when it is taken, by its stamp
  Durations queue;      // until its turn comes
  Durations inference;  // observing, inferring, encoding
  Durations publish;    // handing the command to the middleware
  Durations total;      // all but the age
  Durations lateness;   // of waking up at a fixed rate
  std::atomic<uint64_t> answered{0}, swaps{0}, misses{0}, idle{0}, publish_failed{0};
  std::array<std::atomic<uint64_t>, kReasons> refused{};
  std::string refusal() const;                // the last one, in words
  std::vector<std::string> denied() const;    // options that the system refused

private:
  struct Input
  {
    Topic topic;
    rcl_subscription_t subscription;
  };
  struct Chosen
  {
    std::shared_ptr<Policy> policy;
    Controller::Answers answers;
  };

  void run();
  void configure_thread();
  void drain();
  void answer(int64_t taken_ns);
  void adopt();
  void release_entities();
  int64_t sleep_until_due(int64_t due_ns);

  rcl_node_t * node_;
  Controller controller_;
  LoopOptions options_;
  rcl_publisher_t publisher_;
  std::vector<std::unique_ptr<Input>> inputs_;
  rcl_serialized_message_t incoming_;
  rcl_serialized_message_t outgoing_;
  sem_t awake_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  std::atomic<Chosen *> next_{nullptr};
  std::atomic<Chosen *> retired_{nullptr};
  Chosen * current_ = nullptr;
  mutable std::mutex words_;  // of refusal and denied; taken by the loop on the rare path only
  std::string refusal_;
  std::vector<std::string> denied_;
  uint64_t told_ = 0;
};

}  // namespace rl_nodes
