// Team: every chunk once, whoever works; also with helpers that start late, never, or beside each other.
// CpuShare: how runs at work at the same time divide the CPUs.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "core/parallel.hpp"
#include "tests/check.hpp"

namespace {

using klqp::HelperCrew;
using klqp::Index;
using klqp::Team;

// Runs jobs of many sizes and checks that each chunk was done exactly once before for_chunks returned.
void check_jobs(Team& team, int n_jobs) {
  for (int job = 0; job < n_jobs; ++job) {
    const Index n_chunks = job % 37;
    std::vector<int> done(static_cast<std::size_t>(n_chunks), 0);
    team.for_chunks(n_chunks, [&](Index chunk) { done[static_cast<std::size_t>(chunk)] += 1; });
    bool once = true;
    for (const int n : done) once = once && n == 1;
    CHECK(once);
  }
}

void test_alone() {
  Team team(1);
  check_jobs(team, 100);
}

void test_with_openmp_helpers() {
  for (const int n_threads : {2, 3, 8, 2, 3, 8}) {
    Team team(n_threads);
    check_jobs(team, 500);
  }
}

// Teams one after the other have the same helpers; teams at the same time do not.
void test_crews_are_borrowed() {
  HelperCrew* const crew = klqp::borrow_crew(2);
  if (crew == nullptr) return;
  CHECK(crew->size() >= 2);
  HelperCrew* const other = klqp::borrow_crew(2);
  CHECK(other != crew);
  klqp::give_back(crew);
  CHECK(klqp::borrow_crew(2) == crew);
  klqp::give_back(crew);
  klqp::give_back(other);
  std::atomic<int> right{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&right] {
      for (int run = 0; run < 20; ++run) {
        Team team(3);
        std::atomic<int> done{0};
        for (int job = 0; job < 20; ++job) team.for_chunks(10, [&](Index) { ++done; });
        right += done == 200;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(right == 4 * 20);
}

// The same claims with plain threads as helpers, which the thread sanitizer understands.
void test_with_thread_helpers() {
  for (const int n_helpers : {1, 2, 5}) {
    HelperCrew crew(n_helpers);
    Team team(crew);
    std::vector<std::thread> helpers;
    for (int i = 0; i < n_helpers; ++i) helpers.emplace_back([&crew, i] { crew.help(i); });
    check_jobs(team, 1000);
    crew.close();
    for (auto& helper : helpers) helper.join();
  }
}

// The caller waits only for chunks that somebody has begun: helpers that never start hold nobody up.
void test_helpers_that_never_start() {
  HelperCrew crew(7);
  Team team(crew);
  check_jobs(team, 200);
}

// Helpers beyond the share sleep, and are back when it grows again.
void test_helpers_follow_the_share() {
  const klqp::CpuShare share(3, 3);
  CHECK(share.n_threads() == 3);
  HelperCrew crew(2);
  Team team(crew, &share);
  std::vector<std::thread> helpers;
  for (int i = 0; i < 2; ++i) helpers.emplace_back([&crew, i] { crew.help(i); });
  for (int round = 0; round < 30; ++round) {
    check_jobs(team, 40);
    {
      const klqp::CpuShare other(3, 3);
      CHECK(share.n_threads() == 2 && other.n_threads() == 1);
      check_jobs(team, 40);
      const klqp::CpuShare third(1, 3);
      CHECK(share.n_threads() == 1);
      const auto caller = std::this_thread::get_id();
      std::atomic<int> elsewhere{0};
      team.for_chunks(50, [&](Index) { elsewhere += std::this_thread::get_id() != caller; });
      CHECK(elsewhere == 0);
    }
    CHECK(share.n_threads() == 3);
  }
  crew.close();
  for (auto& helper : helpers) helper.join();
}

// Every run has its caller; the other CPUs go round among those that want helpers.
void test_shares() {
  const auto shares = [](const std::vector<int>& wanted, int n_cpus) {
    std::vector<std::unique_ptr<klqp::CpuShare>> runs;
    for (const int n : wanted) runs.push_back(std::make_unique<klqp::CpuShare>(n, n_cpus));
    std::vector<int> out;
    for (const auto& run : runs) out.push_back(run->n_threads());
    return out;
  };
  using V = std::vector<int>;
  CHECK(shares({2}, 2) == (V{2}));
  CHECK(shares({8}, 2) == (V{8}));  // what one run was told to use, it uses
  CHECK(shares({2, 2}, 2) == (V{1, 1}));
  CHECK(shares({16, 16, 16}, 16) == (V{6, 5, 5}));
  CHECK(shares({16, 1, 16}, 16) == (V{8, 1, 7}));
  CHECK(shares({2, 2, 16}, 16) == (V{2, 2, 12}));
  CHECK(shares({16, 16, 16, 16, 16}, 3) == (V{1, 1, 1, 1, 1}));
}

// Short work is not shared out when that does not pay, long work is.
void test_short_work_stays_with_the_caller() {
  HelperCrew crew(1);
  Team team(crew);
  std::thread helper([&crew] { crew.help(0); });
  const auto caller = std::this_thread::get_id();
  team.share_short_work(false);
  std::atomic<int> elsewhere{0};
  team.for_range(100, 1, [&](Index, Index) { elsewhere += std::this_thread::get_id() != caller; });
  CHECK(elsewhere == 0);
  // Two chunks that wait for each other need two threads.
  std::atomic<int> met{0};
  team.for_long_range(2, 1, [&](Index, Index) {
    ++met;
    while (met < 2) std::this_thread::yield();
  });
  CHECK(met == 2);
  crew.close();
  helper.join();
}

void test_ranges() {
  Team team(1);
  std::vector<int> seen(1001, 0);
  team.for_range(1001, 64, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)] += 1;
  });
  bool once = true;
  for (const int n : seen) once = once && n == 1;
  CHECK(once);
  team.for_range(0, 64, [&](Index, Index) { CHECK(false); });
}

}  // namespace

int main() {
  test_alone();
  test_with_openmp_helpers();
  test_crews_are_borrowed();
  test_with_thread_helpers();
  test_helpers_that_never_start();
  test_helpers_follow_the_share();
  test_shares();
  test_short_work_stays_with_the_caller();
  test_ranges();
  return klqp_test::summary();
}
