// A registry is a constant array of rows (name, factory); contract tests walk it.
#pragma once

#include <string>
#include <vector>

#include "core/errors.hpp"

namespace klqp {

template <class Factory>
struct Row {
  const char* name;
  Factory make;
};

template <class Factory, std::size_t n>
std::vector<std::string> row_names(const Row<Factory> (&rows)[n]) {
  std::vector<std::string> names;
  for (const auto& row : rows) names.emplace_back(row.name);
  return names;
}

// The factory called `name`, or a ConfigError that lists the names there are.
template <class Factory, std::size_t n>
Factory find_row(const Row<Factory> (&rows)[n], const char* kind, const std::string& name) {
  std::string known;
  for (const auto& row : rows) {
    if (name == row.name) return row.make;
    known += (known.empty() ? "'" : ", '") + std::string(row.name) + "'";
  }
  throw ConfigError(std::string("unknown ") + kind + " '" + name + "'; there are " + known);
}

}  // namespace klqp
