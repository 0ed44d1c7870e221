// Point mass: value x (k), params (k): log p = 0 where they are equal.
#pragma once

#include <algorithm>

#include "model/nodes/events/law.hpp"

namespace klqp {

class PointMassLaw final : public Law {
 public:
  explicit PointMassLaw(Index size) : size_(size) {
    check_at_least("the size of a point", size, 1);
    widths = {size, size};
    no_gradient = 3u;
    work = size;
  }

  void prepare(const double* const*, bool, double*, double*) const noexcept override {}
  double log_prob(const double* const* args, const double*, double*, double*) const noexcept override {
    const auto is_nan = [](double x) { return std::isnan(x); };
    if (std::any_of(args[0], args[0] + size_, is_nan) || std::any_of(args[1], args[1] + size_, is_nan)) return kNaN;
    return std::equal(args[0], args[0] + size_, args[1]) ? 0.0 : kMinusInfinity;
  }
  void add_gradient(const double* const*, const double*, const double*, double, double* const*,
                    double*) const noexcept override {}

 private:
  Index size_;
};

}  // namespace klqp
