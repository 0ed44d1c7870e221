// RowPartition: rows in blocks that stay in cache, blocks in chunks that threads claim.
#pragma once

#include <algorithm>

#include "core/view.hpp"

namespace klqp {

// Decided by sizes alone, not by the number of threads.
class RowPartition {
 public:
  static constexpr Index kMostRows = 256, kMostChunks = 64;

  RowPartition() = default;
  // n rows of `width` numbers, for which a chunk has `partial` numbers of its own to be added up at the end.
  RowPartition(Index n, Index width, Index partial) : n_(n) {
    constexpr Index kCached = 16384, kFewestRows = 16, kMultiple = 8;
    block_ = std::clamp(kCached / width / kMultiple * kMultiple, kFewestRows, kMostRows);
    n_blocks_ = (n + block_ - 1) / block_;
    // Partial sums take a small part of the memory and of the time that the rows do, but for a few chunks.
    constexpr Index kFewChunks = 8, kShare = 16;
    const Index affordable = std::max(kFewChunks, n * width / kShare / std::max<Index>(1, partial));
    n_chunks_ = std::min({kMostChunks, n_blocks_, affordable});
  }

  Index block() const noexcept { return block_; }
  Index n_chunks() const noexcept { return n_chunks_; }

  // Calls body(first, n) on the blocks of a chunk, in order.
  template <class Body>
  void for_blocks(Index chunk, const Body& body) const {
    const Index end = std::min(n_, first_block(chunk + 1) * block_);
    for (Index first = first_block(chunk) * block_; first < end; first += block_) {
      body(first, std::min(block_, end - first));
    }
  }

 private:
  Index first_block(Index chunk) const noexcept { return chunk * n_blocks_ / n_chunks_; }

  Index n_ = 0, block_ = 1, n_blocks_ = 0, n_chunks_ = 0;
};

}  // namespace klqp
