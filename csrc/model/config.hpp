// NodeConfig: the constants of a node, by name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/view.hpp"

namespace klqp {

struct NodeConfig {
  std::map<std::string, std::vector<Index>> integers;
  std::map<std::string, std::vector<double>> numbers;

  Index integer(const std::string& name) const { return find(integers, name).at(0); }
  Index integer(const std::string& name, Index otherwise) const {
    return integers.contains(name) ? integer(name) : otherwise;
  }
  double number(const std::string& name) const { return find(numbers, name).at(0); }
  double number(const std::string& name, double otherwise) const {
    return numbers.contains(name) ? number(name) : otherwise;
  }
  const std::vector<Index>& integer_list(const std::string& name) const { return find(integers, name); }

 private:
  template <class T>
  static const std::vector<T>& find(const std::map<std::string, std::vector<T>>& from, const std::string& name) {
    const auto found = from.find(name);
    if (found == from.end()) throw ConfigError("the node's option '" + name + "' is missing");
    return found->second;
  }
};

}  // namespace klqp
