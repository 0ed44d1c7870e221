// ScratchPool: memory for as many threads as take part, each for the time of a chunk.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/view.hpp"

namespace klqp {

// Up to kMost threads at once. The lowest free part is taken, so that few threads touch little memory.
class ScratchPool {
 public:
  static constexpr int kMost = 64;

  // Room of `size` bytes for each.
  void reserve(Index size) {
    constexpr Index kLine = 64;  // parts do not share cache lines
    size = (size + kLine - 1) / kLine * kLine;
    if (size <= size_) return;
    memory_ = std::make_unique_for_overwrite<std::byte[]>(static_cast<std::size_t>(size * kMost));
    size_ = size;
  }

  class Part {
   public:
    explicit Part(ScratchPool& pool) noexcept : pool_(pool) {
      std::uint64_t taken = pool.taken_.load(std::memory_order_relaxed);
      do {
        part_ = std::countr_one(taken);
      } while (!pool.taken_.compare_exchange_weak(taken, taken | bit(), std::memory_order_acquire,
                                                  std::memory_order_relaxed));
    }
    ~Part() { pool_.taken_.fetch_and(~bit(), std::memory_order_release); }
    Part(const Part&) = delete;
    Part& operator=(const Part&) = delete;

    std::byte* data() const noexcept { return pool_.memory_.get() + part_ * pool_.size_; }

   private:
    std::uint64_t bit() const noexcept { return std::uint64_t{1} << part_; }

    ScratchPool& pool_;
    int part_ = 0;
  };

 private:
  std::unique_ptr<std::byte[]> memory_;
  Index size_ = 0;
  std::atomic<std::uint64_t> taken_{0};
};

}  // namespace klqp
