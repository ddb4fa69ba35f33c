// The thread team and the choice of the instruction set.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>

#include "tensor/errors.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// An environment variable that has a value while this lives.
class Environment {
 public:
  Environment(const char* variable, const char* value) : variable_(variable) { setenv(variable, value, 1); }
  ~Environment() { unsetenv(variable_); }

 private:
  const char* variable_;
};

}  // namespace

TEST_CASE("every unit runs once, many times over") {
  for (int members : {1, 2, 5}) {
    ThreadTeam team(members);
    for (int64_t units : {0, 1, 2, 3, 64}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(units));
      for (int i = 0; i < 500; ++i)
        team.run(
            [](void* context, int64_t unit) {
              ++(*static_cast<std::vector<std::atomic<int>>*>(context))[static_cast<size_t>(unit)];
            },
            &runs, units);
      for (const auto& count : runs) CHECK(count == 500);
    }
  }
}

TEST_CASE("a region ends without a member that is late, and nothing of it is touched afterwards") {
  ThreadTeam team(4);
  std::atomic<int64_t> total{0};
  // Regions so short that most members come late, each with a context of its own that is gone when it ends.
  for (int64_t i = 0; i < 20000; ++i) {
    struct Context {
      std::atomic<int64_t>* total;
      int64_t value;
    };
    auto context = std::make_unique<Context>(Context{&total, i});
    team.run(
        [](void* c, int64_t unit) {
          const auto* of = static_cast<Context*>(c);
          of->total->fetch_add(of->value * (unit + 1), std::memory_order_relaxed);
        },
        context.get(), 2 + i % 3);
  }
  int64_t expected = 0;
  for (int64_t i = 0; i < 20000; ++i) expected += i * ((2 + i % 3) * (3 + i % 3) / 2);
  CHECK(total == expected);
}

TEST_CASE("nested and concurrent regions run all units") {
  const Threads threads(3);
  std::atomic<int> units{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller)
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i)
        parallel(3, [&](int64_t) { parallel(5, [&](int64_t) { units.fetch_add(1, std::memory_order_relaxed); }); });
    });
  for (std::thread& t : callers) t.join();
  CHECK(units == 3 * 50 * 3 * 5);
}

TEST_CASE("parallel_for covers the range once with borders at the grain") {
  const Threads threads(4);
  for (int64_t n : {0, 1, 15, 16, 17, 100, 1000}) {
    std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
    std::atomic<bool> aligned{true};
    parallel_for(n, 16, [&](int64_t begin, int64_t end) {
      if (begin % 16 != 0 || (end % 16 != 0 && end != n)) aligned = false;
      for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
    });
    CHECK(aligned);
    for (const std::atomic<int>& count : seen) CHECK(count == 1);
  }
}

TEST_CASE("LATHE_THREADS decides, within bounds") {
  CHECK(default_threads() >= 1);
  {
    const Environment three("LATHE_THREADS", "3");
    CHECK(default_threads() == 3);
  }
  for (const char* wrong : {"0", "-1", "2x", "many", "99999999999999999999", "1025"}) {
    const Environment environment("LATHE_THREADS", wrong);
    CHECK_THROWS_WITH(default_threads(), Catch::Matchers::ContainsSubstring(wrong));
  }
}

TEST_CASE("the portable instruction set is always there and names are stable") {
  const std::vector<CpuIsa> isas = available_isas();
  REQUIRE_FALSE(isas.empty());
  CHECK(isas.front() == CpuIsa::portable);
  CHECK(name(CpuIsa::avx512_vnni) == "avx512_vnni");
  CHECK(name(CpuIsa::avx_vnni) == "avx_vnni");
  CHECK(name(CpuIsa::amx) == "amx");
  CHECK(name(CpuIsa::neon_i8mm) == "neon_i8mm");
  const CpuIsa before = cpu_isa();
  for (CpuIsa isa : isas) {
    set_cpu_isa(isa);
    CHECK(cpu_isa() == isa);
  }
  set_cpu_isa(before);
  // What the machine lacks, or has never been part of its architecture.
  for (CpuIsa isa : {CpuIsa::amx, CpuIsa::neon, CpuIsa::neon_i8mm})
    if (std::find(isas.begin(), isas.end(), isa) == isas.end())
      CHECK_THROWS_WITH(set_cpu_isa(isa), Catch::Matchers::ContainsSubstring("this machine has portable"));
}
