// RowNumbers: data that are to be used as indices, checked when they are set.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "model/slot.hpp"

namespace klqp {

class RowNumbers {
 public:
  RowNumbers() = default;
  // Of the data in `slot`, each in [0, end).
  RowNumbers(const Slot* slot, Index end) : slot_(slot), end_(end), index_(static_cast<std::size_t>(slot->size)) {}

  // Throws ConfigError where a number is no index.
  void data_changed() {
    for (std::size_t i = 0; i < index_.size(); ++i) {
      const double at = slot_->value[i];
      if (!(at >= 0.0 && at < static_cast<double>(end_)) || at != std::floor(at)) {
        throw ConfigError("an index must be an integer in [0, " + std::to_string(end_) + "), not " +
                          std::to_string(at));
      }
      index_[i] = static_cast<Index>(at);
    }
  }

  // Null without data.
  const Index* data() const noexcept { return index_.empty() ? nullptr : index_.data(); }

 private:
  const Slot* slot_ = nullptr;
  Index end_ = 0;
  std::vector<Index> index_;
};

}  // namespace klqp
