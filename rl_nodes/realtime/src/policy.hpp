// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// One policy on ONNX Runtime's C API: everything preallocated, one call per tick.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace rl_nodes
{

class Policy
{
public:
  // `library` is a path of libonnxruntime, `model` the bytes of a verified model with the input
  // "observation" (1, O) and the output "action" (1, A), float32. Throws std::runtime_error.
  Policy(
    const std::string & library, const std::string & model, size_t observations, size_t actions,
    std::string label, int threads);
  ~Policy();
  Policy(const Policy &) = delete;
  Policy & operator=(const Policy &) = delete;

  // Compute `action` from `observation`; false where ONNX Runtime fails or answers with what is
  // not finite.
  bool run() noexcept;

  const std::string label;
  std::vector<float> observation;  // (O,)
  std::vector<float> action;       // (A,)

private:
  struct Session;
  std::unique_ptr<Session> session_;
};

}  // namespace rl_nodes
