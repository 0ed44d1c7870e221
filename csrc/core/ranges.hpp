// Ranges: some of the coordinates of a flat vector, as runs of neighbours.
#pragma once

#include <algorithm>
#include <vector>

#include "core/view.hpp"

namespace klqp {

struct IndexRange {
  Index begin, end;
  Index size() const noexcept { return end - begin; }
  bool operator==(const IndexRange&) const = default;
};

// In order, without overlap.
using Ranges = std::vector<IndexRange>;

inline Ranges all_of(std::size_t n) { return {{0, static_cast<Index>(n)}}; }

// Puts ranges in order and joins those that overlap or meet.
inline void merge_ranges(Ranges& ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const IndexRange& one, const IndexRange& other) { return one.begin < other.begin; });
  std::size_t n = 0;
  for (const IndexRange& range : ranges) {
    if (n > 0 && range.begin <= ranges[n - 1].end) {
      ranges[n - 1].end = std::max(ranges[n - 1].end, range.end);
    } else {
      ranges[n++] = range;
    }
  }
  ranges.resize(n);
}

}  // namespace klqp
