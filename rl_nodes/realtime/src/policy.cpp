// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0

#include "policy.hpp"

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
    release(api, kReleaseIoBinding, binding);
    release(api, kReleaseValue, output);
    release(api, kReleaseValue, input);
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
  Handle input = nullptr;
  Handle output = nullptr;
  Handle binding = nullptr;
};

Policy::Policy(
  const std::string & library, const std::string & model, size_t observations, size_t actions,
  std::string given_label, int threads)
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
  s.input = tensor(api, s.memory, observation.data(), observation.size());
  s.output = tensor(api, s.memory, action.data(), action.size());
  check(api, call(api, kCreateIoBinding, s.session, &s.binding));
  check(api, call(api, kBindInput, s.binding, "observation", s.input));
  check(api, call(api, kBindOutput, s.binding, "action", s.output));
  for (int i = 0; i < 20; ++i) {  // warm up: arenas, caches, branch predictors
    check(api, call(api, kRunWithBinding, s.session, Handle{nullptr}, s.binding));
  }
}

Policy::~Policy() = default;

bool Policy::run() noexcept
{
  Session & s = *session_;
  Handle status = call(s.api, kRunWithBinding, s.session, Handle{nullptr}, s.binding);
  if (status != nullptr) {
    release(s.api, kReleaseStatus, status);
    return false;
  }
  for (float value : action) {
    if (!std::isfinite(value)) {
      return false;
    }
  }
  return true;
}

}  // namespace rl_nodes
