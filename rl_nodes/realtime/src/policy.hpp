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

// What the model writes as `output` it reads as `input` at the next state; see inference/memory.py.
struct StateTensor
{
  std::string input, output;
  std::vector<int64_t> shape;
};

class Policy
{
public:
  // `library` is a path of libonnxruntime, `model` the bytes of a verified model with the input
  // "observation" (1, O), the output "action" (1, A) and the state tensors, float32. Throws
  // std::runtime_error.
  Policy(
    const std::string & library, const std::string & model, size_t observations, size_t actions,
    std::string label, int threads, const std::vector<StateTensor> & states);
  ~Policy();
  Policy(const Policy &) = delete;
  Policy & operator=(const Policy &) = delete;

  // Compute `action` from `observation` and remember; false where ONNX Runtime fails or answers
  // with what is not finite, which leaves the memory as it is.
  bool run() noexcept;

  bool remembers() const noexcept {return !halves_[0].empty();}

  // An episode: the memory of another one is forgotten.
  void enter(int64_t number, int64_t start) noexcept;

  const std::string label;
  std::vector<float> observation;  // (O,)
  std::vector<float> action;       // (A,)

private:
  struct Session;

  std::vector<float> halves_[2];  // the state tensors before and after the newest state
  int read_ = 0;                  // the half that is read
  int64_t number_ = -1, start_ = -1;
  std::unique_ptr<Session> session_;
};

}  // namespace rl_nodes
