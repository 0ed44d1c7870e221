// RowCategories: the categories that data name, read once.
#pragma once

#include <cmath>
#include <vector>

#include "model/slot.hpp"

namespace klqp {

class RowCategories {
 public:
  static constexpr int kOutside = -1, kMissing = -2;

  explicit RowCategories(Index n) : category_(static_cast<std::size_t>(n)) {}

  // Of values in 0, ..., n_categories - 1; others are kOutside, NaN is kMissing.
  void read(const double* values, Index n_categories) {
    for (std::size_t i = 0; i < category_.size(); ++i) {
      const double x = values[i];
      const bool inside = x >= 0.0 && x < static_cast<double>(n_categories) && x == std::floor(x);
      category_[i] = inside ? static_cast<int>(x) : (std::isnan(x) ? kMissing : kOutside);
    }
  }
  int operator[](Index row) const noexcept { return category_[static_cast<std::size_t>(row)]; }

 private:
  std::vector<int> category_;
};

}  // namespace klqp
