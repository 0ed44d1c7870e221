// The bijectors by name, with what their configurations have to be.
#pragma once

#include <cmath>
#include <memory>
#include <string>

#include "core/registry.hpp"
#include "model/bijectors/cholesky.hpp"
#include "model/bijectors/correlation.hpp"
#include "model/bijectors/elementwise.hpp"
#include "model/bijectors/ordered.hpp"
#include "model/bijectors/simplex.hpp"

namespace klqp {

enum class EventShape { number, vector, matrix };

struct BijectorMaker {
  std::unique_ptr<Bijector> (*make)(const BijectorConfig&);
  EventShape shape = EventShape::number;
  bool takes_lower = false, takes_upper = false;
};

template <class T>
std::unique_ptr<Bijector> make_bijector_of(const BijectorConfig& config) {
  return std::make_unique<T>(config);
}

inline constexpr Row<BijectorMaker> kBijectors[] = {
    {"identity", {make_bijector_of<Identity>}},
    {"positive", {make_bijector_of<Positive>}},
    {"softplus", {make_bijector_of<Softplus>}},
    {"lower", {make_bijector_of<LowerBounded>, EventShape::number, true, false}},
    {"upper", {make_bijector_of<UpperBounded>, EventShape::number, false, true}},
    {"interval", {make_bijector_of<Interval>, EventShape::number, true, true}},
    {"unit_interval", {make_bijector_of<UnitInterval>}},
    {"simplex", {make_bijector_of<StickBreaking>, EventShape::vector}},
    {"simplex_softmax", {make_bijector_of<SoftmaxSimplex>, EventShape::vector}},
    {"ordered", {make_bijector_of<Ordered>, EventShape::vector}},
    {"positive_ordered", {make_bijector_of<PositiveOrdered>, EventShape::vector}},
    {"cholesky_cov", {make_bijector_of<CholeskyFactor>, EventShape::matrix}},
    {"cholesky_corr", {make_bijector_of<CholeskyCorrelation>, EventShape::matrix}},
    {"covariance", {make_bijector_of<Covariance>, EventShape::matrix}},
    {"correlation", {make_bijector_of<Correlation>, EventShape::matrix}},
};

// Refuses a bound that is missing, out of place, of the wrong length or not finite.
inline void check_bound(const std::string& name, const char* which, const std::vector<double>& values, bool taken,
                        Index n_events) {
  const auto n = static_cast<Index>(values.size());
  if (!taken) {
    if (n > 0) throw ConfigError("the bijector '" + name + "' takes no " + which + " bound");
    return;
  }
  if (n != 1 && n != n_events) {
    throw ConfigError("the bijector '" + name + "' needs 1 or " + std::to_string(n_events) + " " + which +
                      " bounds, not " + std::to_string(n));
  }
  for (Index i = 0; i < n; ++i) {
    if (!std::isfinite(values[i])) {
      throw ConfigError(std::string(which) + " bounds must be finite, not " + std::to_string(values[i]));
    }
  }
}

inline std::unique_ptr<Bijector> make_bijector(const std::string& name, const BijectorConfig& config) {
  const BijectorMaker maker = find_row(kBijectors, "bijector", name);
  if (config.n_events < 1) {
    throw ConfigError("the number of events must be at least 1, not " + std::to_string(config.n_events));
  }
  if (config.size < 1) throw ConfigError("the size must be at least 1, not " + std::to_string(config.size));
  if (maker.shape == EventShape::number && config.size != 1) {
    throw ConfigError("the bijector '" + name + "' maps numbers, of size 1, not " + std::to_string(config.size));
  }
  if (maker.shape == EventShape::matrix && config.size > kLargestMatrix) {
    throw ConfigError("matrices have at most " + std::to_string(kLargestMatrix) + " rows, not " +
                      std::to_string(config.size));
  }
  check_bound(name, "lower", config.lower, maker.takes_lower, config.n_events);
  check_bound(name, "upper", config.upper, maker.takes_upper, config.n_events);
  if (maker.takes_lower && maker.takes_upper) {
    for (Index i = 0; i < config.n_events; ++i) {
      const double lower = config.lower[config.lower.size() == 1 ? 0 : i];
      const double upper = config.upper[config.upper.size() == 1 ? 0 : i];
      if (!(lower < upper) || !std::isfinite(upper - lower)) {
        throw ConfigError("lower bounds must be below upper ones, by a finite width: not " + std::to_string(lower) +
                          " and " + std::to_string(upper));
      }
    }
  }
  return maker.make(config);
}

}  // namespace klqp
