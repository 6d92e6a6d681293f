// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// What Python sees: policies, a controller fed by hand (for tests), and the loop.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "control_loop.hpp"
#include "controller.hpp"
#include "policy.hpp"

namespace py = pybind11;
using namespace rl_nodes;  // NOLINT

namespace
{

template<typename T>
T get(const py::dict & given, const char * key)
{
  return given[key].cast<T>();
}

// A plan that does not fit itself would be read past its ends.
void check(const Plan & plan)
{
  const size_t commands = plan.commanded.size();
  const auto within = [](const std::vector<int> & all, size_t count) {
      return std::all_of(
        all.begin(), all.end(),
        [count](int i) {return i >= 0 && static_cast<size_t>(i) < count;});
    };
  const bool planar = !plan.turn.empty();
  if (plan.command_index.size() != commands || plan.size.size() != commands ||
    plan.turn.size() != (planar ? 2 : 0) || (planar && commands != 2) ||
    (!planar && plan.origin.size() != commands) || plan.depth < 1 || plan.period_ns < 1 ||
    plan.cycle_ns < 1 || plan.ranges < 0 || plan.objects < 0 ||
    !within(plan.command_index, plan.joints.size()) ||
    !within(plan.actions, plan.frame.size()) ||
    !within(plan.places, plan.frame.size() * plan.depth))
  {
    throw std::invalid_argument("the plan of the control tick does not fit itself");
  }
}

Plan plan_of(const py::dict & given)
{
  Plan plan;
  plan.joints = get<std::vector<std::string>>(given, "joints");
  plan.commanded = get<std::vector<std::string>>(given, "commanded");
  plan.command_index = get<std::vector<int>>(given, "command_index");
  plan.field = static_cast<Field>(get<int>(given, "field"));
  plan.relative = get<bool>(given, "relative");
  plan.origin = get<std::vector<double>>(given, "origin");
  plan.size = get<std::vector<double>>(given, "size");
  plan.turn = get<std::vector<double>>(given, "turn");
  for (const auto & [source, index] : get<std::vector<std::pair<int, int>>>(given, "frame")) {
    plan.frame.push_back({static_cast<Source>(source), index});
  }
  plan.places = get<std::vector<int>>(given, "places");
  plan.depth = get<int>(given, "depth");
  plan.actions = get<std::vector<int>>(given, "actions");
  plan.period_ns = get<int64_t>(given, "period_ns");
  using Row = std::tuple<int, bool, std::vector<double>>;
  for (const auto & [joint, sliding, numbers] : get<std::vector<Row>>(given, "chain")) {
    plan.chain.push_back({joint, sliding, numbers});
  }
  plan.tip = get<std::array<double, 3>>(given, "tip");
  plan.base = get<bool>(given, "base");
  plan.ranges = get<int>(given, "ranges");
  plan.objects = get<int>(given, "objects");
  plan.imu = get<bool>(given, "imu");
  plan.wrench = get<bool>(given, "wrench");
  plan.cycle_ns = get<int64_t>(given, "cycle_ns");
  plan.nearest = get<double>(given, "nearest");
  check(plan);
  return plan;
}

using State = std::tuple<std::string, std::string, std::vector<int64_t>>;

std::shared_ptr<Policy> make_policy(
  const std::string & library, const std::string & model, size_t observations, size_t actions,
  std::string label, int threads, const std::vector<State> & given)
{
  std::vector<StateTensor> states;
  for (const auto & [input, output, shape] : given) {
    if (std::any_of(shape.begin(), shape.end(), [](int64_t size) {return size < 1;})) {
      throw std::invalid_argument(input + ": the shape of a state tensor has no size below 1");
    }
    states.push_back({input, output, shape});
  }
  return std::make_shared<Policy>(
    library, model, observations, actions, std::move(label), threads, states);
}

// A controller without ROS.
class LooseController
{
public:
  explicit LooseController(const py::dict & plan)
  : controller_(plan_of(plan)) {}

  void use(std::shared_ptr<Policy> policy)
  {
    answers_ = controller_.prepare(policy->label);
    controller_.use(&answers_);
    policy_ = std::move(policy);
  }

  py::object feed(int topic, const std::string & bytes)
  {
    if (!controller_.take(
        static_cast<Topic>(topic), reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()))
    {
      return py::none();
    }
    const std::vector<uint8_t> * answer = controller_.answer(policy_.get());
    if (answer == nullptr) {
      return py::none();
    }
    return py::bytes(reinterpret_cast<const char *>(answer->data()), answer->size());
  }

  const Controller & controller() const {return controller_;}

private:
  Controller controller_;
  Controller::Answers answers_;
  std::shared_ptr<Policy> policy_;
};

std::unique_ptr<ControlLoop> loop_of(
  uintptr_t node, const py::dict & plan,
  const std::vector<std::tuple<int, std::string, size_t, bool>> & inputs,
  const std::string & output, size_t output_depth, const py::dict & given)
{
  std::vector<TopicName> names;
  for (const auto & [topic, name, depth, latched] : inputs) {
    names.push_back({static_cast<Topic>(topic), name, depth, latched});
  }
  LoopOptions options;
  options.fixed_period_ns = get<int64_t>(given, "fixed_period_ns");
  options.busy_poll = get<bool>(given, "busy_poll");
  options.priority = get<int>(given, "priority");
  options.cpus = get<std::vector<int>>(given, "cpus");
  options.lock_memory = get<bool>(given, "lock_memory");
  return std::make_unique<ControlLoop>(
    reinterpret_cast<rcl_node_t *>(node), plan_of(plan), names, output, output_depth, options);
}

py::dict counts(const ControlLoop & loop)
{
  py::dict found;
  found["answered"] = loop.answered.load();
  found["swaps"] = loop.swaps.load();
  found["deadline_misses"] = loop.misses.load();
  found["idle"] = loop.idle.load();
  found["publish_failed"] = loop.publish_failed.load();
  const char * const names[kReasons] = {"malformed", "not_finite", "out_of_order", "policy"};
  for (int i = 0; i < kReasons; ++i) {
    found[(std::string("dropped_") + names[i]).c_str()] = loop.refused[i].load();
  }
  return found;
}

}  // namespace

PYBIND11_MODULE(_control, module)
{
  module.doc() = "The control tick of the policy server; see rl_nodes/realtime/__init__.py.";
  py::class_<Policy, std::shared_ptr<Policy>>(module, "Policy")
  .def(
    py::init(&make_policy), py::arg("library"), py::arg("model"), py::arg("observations"),
    py::arg("actions"), py::arg("label"), py::arg("threads"), py::arg("states"),
    py::call_guard<py::gil_scoped_release>())
  .def_readonly("label", &Policy::label);
  py::class_<LooseController>(module, "Controller")
  .def(py::init<const py::dict &>())
  .def("use", &LooseController::use)
  .def("feed", &LooseController::feed)
  .def_property_readonly(
    "observation", [](const LooseController & self) {return self.controller().observation();})
  .def_property_readonly(
    "refused", [](const LooseController & self) {return self.controller().refused;})
  .def_property_readonly(
    "refusal", [](const LooseController & self) {return self.controller().refusal;});
  py::class_<ControlLoop>(module, "ControlLoop")
  .def(py::init(&loop_of))
  .def("start", &ControlLoop::start)
  .def("stop", &ControlLoop::stop, py::call_guard<py::gil_scoped_release>())
  .def("set_policy", &ControlLoop::set_policy, py::call_guard<py::gil_scoped_release>())
  .def("counts", &counts)
  .def("total", [](const ControlLoop & self) {return self.total.values();})
  .def("age", [](const ControlLoop & self) {return self.age.values();})
  .def("queue", [](const ControlLoop & self) {return self.queue.values();})
  .def("inference", [](const ControlLoop & self) {return self.inference.values();})
  .def("publish", [](const ControlLoop & self) {return self.publish.values();})
  .def("lateness", [](const ControlLoop & self) {return self.lateness.values();})
  .def("refusal", &ControlLoop::refusal)
  .def("denied", &ControlLoop::denied);
}
