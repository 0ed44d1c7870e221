// Specs: the parts of a run as Python describes them, cheap to copy, made into real parts when a run starts.
#pragma once

#include <cstdint>
#include <string>

#include "core/estimator/registry.hpp"
#include "core/family/registry.hpp"
#include "core/optimizer/registry.hpp"

namespace klqp {

struct FamilySpec {
  std::string name;
  FamilyConfig config;
  std::unique_ptr<Family> make() const { return make_family(name, config); }
};

struct EstimatorSpec {
  std::string name;
  EstimatorConfig config;
  std::unique_ptr<Estimator> make(const Family& family, const Noise& noise) const {
    return make_estimator(name, config, family, noise);
  }
};

struct OptimizerSpec {
  std::string name;
  OptimizerOptions options;
  std::unique_ptr<Optimizer> make() const { return make_optimizer(name, options); }
};

}  // namespace klqp
