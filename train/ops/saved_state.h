#pragma once
// Keeps a struct for the backward pass of an autograd function and hands it over whole, so that the backward pass
// decides when each tensor in it is freed.

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "sim/units/errors.h"

namespace mmoe {

template <class State>
struct StateHolder : torch::CustomClassHolder {
  explicit StateHolder(State s) : state(std::move(s)) {}
  State state;
};

template <class State>
void keep_state(torch::autograd::AutogradContext* context, State state) {
  context->set_materialize_grads(false);
  context->saved_data["state"] = c10::IValue::make_capsule(c10::make_intrusive<StateHolder<State>>(std::move(state)));
}

// Moves the state out; a second backward pass through the same graph is a mistake of ours.
template <class State>
State take_state(torch::autograd::AutogradContext* context) {
  const auto found = context->saved_data.find("state");
  MMOE_CHECK(found != context->saved_data.end()) << "backward ran twice through one graph";
  const auto holder = c10::static_intrusive_pointer_cast<StateHolder<State>>(found->second.toCapsule());
  State state = std::move(holder->state);
  context->saved_data.erase(found);
  return state;
}

}  // namespace mmoe
