// Counts allocations: replaces operator new. For one source file of an executable.
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

namespace klqp_test {

inline std::atomic<long> n_allocations{0};

}  // namespace klqp_test

// Not inlined: GCC would take malloc and delete, or new and free, for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t size) {
  klqp_test::n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* const p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
