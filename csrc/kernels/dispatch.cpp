// Chooses the kernel table of this machine, once.
#include <cstdlib>
#include <cstring>

#include "kernels/kernels.hpp"

#ifdef KLQP_HAVE_X86_TABLES
#include <cpuid.h>
#endif

namespace klqp {

extern const KernelTable table_base;
#ifdef KLQP_HAVE_X86_TABLES
extern const KernelTable table_v3;
extern const KernelTable table_v4;
#endif

namespace {

#ifdef KLQP_HAVE_X86_TABLES

// The instructions of a level that compilers' __builtin_cpu_supports does not know by name everywhere.
bool has_lesser_v3_instructions() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_MOVBE) || !(c & bit_F16C)) return false;
  return __get_cpuid(0x80000001u, &a, &b, &c, &d) && (c & (1u << 5));  // LZCNT
}

// The builtin also asks whether the operating system saves the wide registers.
bool runs_v3() noexcept {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && has_lesser_v3_instructions();
}

bool runs_v4() noexcept {
  return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#endif

struct Tables {
  const KernelTable* list[3] = {&table_base, nullptr, nullptr};
  std::size_t count = 1;
  const KernelTable* active = &table_base;

  Tables() noexcept {
#ifdef KLQP_HAVE_X86_TABLES
    if (runs_v3()) list[count++] = &table_v3;
    if (runs_v4()) list[count++] = &table_v4;
#endif
    active = list[capped(std::getenv("KLQP_ISA"))];
  }

  // The last table not above the cap. The tables are ordered by level; an unknown name is no cap.
  std::size_t capped(const char* cap) const noexcept {
    constexpr const char* levels[] = {"base", "v3", "v4"};
    for (std::size_t level = 0; cap != nullptr && level < 3; ++level) {
      if (std::strcmp(cap, levels[level]) == 0) return level < count ? level : count - 1;
    }
    return count - 1;
  }
};

const Tables& tables() noexcept {
  static const Tables chosen;
  return chosen;
}

}  // namespace

const KernelTable& kernels() noexcept { return *tables().active; }

std::span<const KernelTable* const> available_kernels() noexcept { return {tables().list, tables().count}; }

const DensityKernel* find_density(const KernelTable& table, std::string_view name) noexcept {
  for (const DensityKernel& density : table.densities) {
    if (name == density.name) return &density;
  }
  return nullptr;
}

}  // namespace klqp
