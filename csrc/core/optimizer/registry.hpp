// The optimizers by name.
#pragma once

#include <memory>

#include "core/optimizer/adam.hpp"
#include "core/optimizer/adaptive_scale.hpp"
#include "core/optimizer/dowg.hpp"
#include "core/optimizer/ftrl.hpp"
#include "core/optimizer/sgd.hpp"
#include "core/registry.hpp"

namespace klqp {

template <class T>
std::unique_ptr<Optimizer> make_optimizer_of(const OptimizerOptions& options) {
  return std::make_unique<T>(options);
}

inline constexpr Row<std::unique_ptr<Optimizer> (*)(const OptimizerOptions&)> kOptimizers[] = {
    {"adam", make_optimizer_of<Adam>},         {"sgd", make_optimizer_of<Sgd>},
    {"momentum", make_optimizer_of<Momentum>}, {"adagrad", make_optimizer_of<Adagrad>},
    {"adadelta", make_optimizer_of<Adadelta>}, {"rmsprop", make_optimizer_of<RmsProp>},
    {"ftrl", make_optimizer_of<Ftrl>},         {"dowg", make_optimizer_of<Dowg>},
};

inline std::unique_ptr<Optimizer> make_optimizer(const std::string& name, const OptimizerOptions& options) {
  return find_row(kOptimizers, "optimizer", name)(options);
}

}  // namespace klqp
