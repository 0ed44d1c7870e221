// Team: whom it asks for help, and when.
#include "core/parallel.hpp"

namespace klqp {

Team::Team(int n_threads, const CpuShare* share)
    : helpers_(n_threads > 1 && threads_available() ? n_threads - 1 : 0), cpu_share_(share) {}

Team::Team(HelperCrew& crew, const CpuShare* share) : helpers_(crew.size()), cpu_share_(share), crew_(&crew) {}

Team::~Team() {
  if (borrowed_) give_back(crew_);
}

// Says how many helpers take part from now on; returns whether any do. Where there are no threads to be had, the caller
// works alone.
bool Team::invite_helpers() noexcept {
  const int n = cpu_share_ == nullptr ? helpers_ : std::min(helpers_, cpu_share_->n_threads() - 1);
  if (crew_ == nullptr) {
    if (n == 0) return false;
    crew_ = borrow_crew(helpers_);
    if (crew_ == nullptr) {
      helpers_ = 0;
      return false;
    }
    borrowed_ = true;
  }
  crew_->invite(n);
  return n > 0;
}

}  // namespace klqp
