// What every kind of run takes from Python: stop rules and an observer.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/stopping/stop_rule.hpp"
#include "python/gil.hpp"

namespace klqp {

using RuleSpec = std::pair<std::string, std::vector<double>>;

inline StopRules make_rules(const std::vector<RuleSpec>& specs) {
  StopRules rules;
  for (const auto& [name, options] : specs) {
    if (name == "steps") {
      rules.push_back(std::make_unique<MaxSteps>(static_cast<std::size_t>(options.at(0))));
    } else if (name == "time") {
      rules.push_back(std::make_unique<TimeLimit>(options.at(0)));
    } else if (name == "evaluations") {
      rules.push_back(std::make_unique<MaxEvaluations>(options.at(0)));
    } else if (name == "plateau") {
      rules.push_back(std::make_unique<Plateau>(static_cast<std::size_t>(options.at(0)),
                                                static_cast<std::size_t>(options.at(1)), options.at(2)));
    } else {
      throw ConfigError("unknown stop rule '" + name + "'");
    }
  }
  return rules;
}

// Checks for signals and calls the user's observer, which the caller keeps alive; runs with the GIL whoever holds it
// now.
inline std::function<void()> make_observer(const pybind11::object& observer) {
  return [&observer] {
    const GilAcquire gil;
    if (or_sleep_at_exit([] { return PyErr_CheckSignals(); }) != 0) throw pybind11::error_already_set();
    if (!observer.is_none()) call_python(observer);
  };
}

}  // namespace klqp
