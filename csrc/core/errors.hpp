// Exceptions of the core, typed by consequence.
#pragma once

#include <stdexcept>

namespace klqp {

// The caller asked for something that cannot be: nothing was started or changed.
struct ConfigError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The log density makes it impossible to go on; the run keeps its state after the last whole step.
struct TargetError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace klqp
