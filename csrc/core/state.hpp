// Snapshot: everything a run must remember, as named arrays of doubles.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/errors.hpp"

namespace klqp {

using Snapshot = std::map<std::string, std::vector<double>>;

// Lists the named arrays that make up the state of one part of a run. Parts describe their state once, in
// visit_state(visitor), and both saving and restoring go through that description.
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  virtual void array(const std::string& name, std::vector<double>& values) = 0;

  void scalar(const std::string& name, double& value) {
    std::vector<double> one{value};
    array(name, one);
    value = one[0];
  }
};

class SaveState final : public StateVisitor {
 public:
  explicit SaveState(Snapshot& snapshot) : snapshot_(snapshot) {}
  void array(const std::string& name, std::vector<double>& values) override { snapshot_[name] = values; }

 private:
  Snapshot& snapshot_;
};

// Checks every array before the first one is touched when run with commit = false.
class RestoreState final : public StateVisitor {
 public:
  RestoreState(const Snapshot& snapshot, bool commit) : snapshot_(snapshot), commit_(commit) {}

  void array(const std::string& name, std::vector<double>& values) override {
    const auto found = snapshot_.find(name);
    if (found == snapshot_.end()) throw ConfigError("the snapshot has no '" + name + "'");
    const bool grows = name.starts_with("trace/");
    if (!grows && found->second.size() != values.size()) {
      throw ConfigError("the snapshot's '" + name + "' has " + std::to_string(found->second.size()) +
                        " numbers where this run has " + std::to_string(values.size()));
    }
    if (commit_) values = found->second;
  }

 private:
  const Snapshot& snapshot_;
  bool commit_;
};

}  // namespace klqp
