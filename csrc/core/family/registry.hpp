// The families by name.
#pragma once

#include <memory>
#include <string>

#include "core/family/block_normal.hpp"
#include "core/family/full_rank_normal.hpp"
#include "core/family/low_rank_normal.hpp"
#include "core/family/mean_field_normal.hpp"
#include "core/family/normal_mixture.hpp"
#include "core/family/student_t.hpp"
#include "core/registry.hpp"

namespace klqp {

template <class T>
std::unique_ptr<Family> make_family_of(const FamilyConfig& config) {
  return std::make_unique<T>(config);
}

inline constexpr Row<std::unique_ptr<Family> (*)(const FamilyConfig&)> kFamilies[] = {
    {"mean_field", make_family_of<MeanFieldNormal>},
    {"full_rank", make_family_of<FullRankNormal>},
    {"low_rank", make_family_of<LowRankNormal>},
    {"student_t", make_family_of<StudentT<FullRankNormal>>},
    {"mean_field_student_t", make_family_of<StudentT<MeanFieldNormal>>},
    {"mixture", make_family_of<NormalMixture<FullRankNormal>>},
    {"mean_field_mixture", make_family_of<NormalMixture<MeanFieldNormal>>},
    {"block", make_family_of<BlockNormal>},
};

// Throws ConfigError unless the blocks, of at least one coordinate each, are all of the dimension.
inline void check_blocks(const FamilyConfig& config) {
  Index sum = 0;
  for (const Index size : config.blocks) {
    if (size < 1) throw ConfigError("a block must have at least 1 coordinate, not " + std::to_string(size));
    sum += size;
  }
  if (sum != config.dim) {
    throw ConfigError("the blocks have " + std::to_string(sum) + " coordinates, not " + std::to_string(config.dim));
  }
}

inline std::unique_ptr<Family> make_family(const std::string& name, const FamilyConfig& config) {
  if (config.dim < 1) throw ConfigError("the dimension must be at least 1, not " + std::to_string(config.dim));
  if (name == "low_rank" && config.rank < 1) {
    throw ConfigError("rank must be at least 1, not " + std::to_string(config.rank));
  }
  if (name.ends_with("student_t") && config.df != 0.0 && !(config.df > 2.0 && config.df <= 1e6)) {
    throw ConfigError("df must be above 2, at most 1e6, not " + std::to_string(config.df));
  }
  if (name.ends_with("mixture") && config.components < 1) {
    throw ConfigError("components must be at least 1, not " + std::to_string(config.components));
  }
  if (name == "block") check_blocks(config);
  return find_row(kFamilies, "family", name)(config);
}

}  // namespace klqp
