// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0

#include "policy.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "onnxruntime_c.hpp"

namespace rl_nodes
{

using namespace ort;  // NOLINT

struct Policy::Session
{
  explicit Session(const std::string & library)
  : api(load(library)) {}

  ~Session()
  {
    for (Handle binding : bindings) {
      release(api, kReleaseIoBinding, binding);
    }
    for (Handle value : values) {
      release(api, kReleaseValue, value);
    }
    release(api, kReleaseSession, session);
    release(api, kReleaseMemoryInfo, memory);
    release(api, kReleaseSessionOptions, options);
    release(api, kReleaseEnv, env);
  }

  Api api;
  Handle env = nullptr;
  Handle options = nullptr;
  Handle memory = nullptr;
  Handle session = nullptr;
  std::vector<Handle> values;
  Handle bindings[2] = {nullptr, nullptr};  // one for each half that may be read

  // Values that stay where they are, as a tensor.
  Handle keep(std::vector<float> & from, size_t start, const std::vector<int64_t> & shape)
  {
    values.push_back(tensor(api, memory, from.data() + start, shape));
    return values.back();
  }
};

namespace
{

constexpr size_t kAlignment = 16;  // of a state tensor's first element: cache lines of 64 bytes

bool finite(const std::vector<float> & values)
{
  return std::all_of(values.begin(), values.end(), [](float value) {return std::isfinite(value);});
}

}  // namespace

Policy::Policy(
  const std::string & library, const std::string & model, size_t observations, size_t actions,
  std::string given_label, int threads, const std::vector<StateTensor> & states)
: label(std::move(given_label)), observation(observations), action(actions),
  session_(std::make_unique<Session>(library))
{
  Session & s = *session_;
  const Api api = s.api;
  const int fatal = 4, arena = 1, standard_memory = 0;
  check(api, call(api, kCreateEnv, fatal, "rl_nodes", &s.env));
  s.options = session_options(api, threads);
  check(
    api, call(
      api, kCreateSessionFromArray, s.env, static_cast<const void *>(model.data()), model.size(),
      s.options, &s.session));
  check(api, call(api, kCreateCpuMemoryInfo, arena, standard_memory, &s.memory));
  std::vector<size_t> starts;
  size_t room = 0;
  for (const StateTensor & state : states) {
    starts.push_back(room);
    room += (elements(state.shape) + kAlignment - 1) / kAlignment * kAlignment;
  }
  halves_[0].assign(room, 0.0F);
  halves_[1] = halves_[0];
  for (int half = 0; half < (states.empty() ? 1 : 2); ++half) {
    Handle & binding = s.bindings[half];
    const auto bind = [&](Slot slot, const std::string & name, Handle value) {
        check(api, call(api, slot, binding, name.c_str(), value));
      };
    check(api, call(api, kCreateIoBinding, s.session, &binding));
    bind(
      kBindInput, "observation",
      s.keep(observation, 0, {1, static_cast<int64_t>(observation.size())}));
    bind(kBindOutput, "action", s.keep(action, 0, {1, static_cast<int64_t>(action.size())}));
    for (size_t i = 0; i < states.size(); ++i) {
      bind(kBindInput, states[i].input, s.keep(halves_[half], starts[i], states[i].shape));
      bind(kBindOutput, states[i].output, s.keep(halves_[1 - half], starts[i], states[i].shape));
    }
    for (int i = 0; i < 20; ++i) {  // warm up: arenas, caches, branch predictors
      check(api, call(api, kRunWithBinding, s.session, Handle{nullptr}, binding));
    }
  }
  enter(0, 0);
}

Policy::~Policy() = default;

bool Policy::run() noexcept
{
  Session & s = *session_;
  Handle status = call(s.api, kRunWithBinding, s.session, Handle{nullptr}, s.bindings[read_]);
  if (status != nullptr) {
    release(s.api, kReleaseStatus, status);
    return false;
  }
  if (!finite(action) || !finite(halves_[1 - read_])) {
    return false;
  }
  read_ = remembers() ? 1 - read_ : 0;
  return true;
}

void Policy::enter(int64_t number, int64_t start) noexcept
{
  if (number != number_ || start != start_) {
    number_ = number;
    start_ = start;
    std::fill(halves_[read_].begin(), halves_[read_].end(), 0.0F);
  }
}

}  // namespace rl_nodes
