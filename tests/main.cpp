// The main of every test program: Catch2's, and a closing line "N passed, N failed, N skipped" in test cases that
// scripts/run_tests.sh adds up. A run in which no test case was executed fails: a filter that matches nothing must
// not pass for a success.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "tests/catch.h"
#include "tests/support.h"

#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>
using ListenerBase = Catch::EventListenerBase;
#else
using ListenerBase = Catch::TestEventListenerBase;
#endif

namespace {

int executed_tests = 0;

struct Summary : ListenerBase {
  using ListenerBase::ListenerBase;
  void testRunEnded(const Catch::TestRunStats& run) override {
    const int failed = static_cast<int>(run.totals.testCases.failed + run.totals.testCases.failedButOk);
    const int passed = static_cast<int>(run.totals.testCases.passed);
    const int skipped = lathe::test::skipped_count();
    executed_tests = passed + failed;
    std::printf("%d passed, %d failed, %d skipped\n", passed - skipped, failed, skipped);
    std::fflush(stdout);
  }
};

}  // namespace

CATCH_REGISTER_LISTENER(Summary)

int main(int argc, char** argv) {
  Catch::Session session;
  if (const int wrong_usage = session.applyCommandLine(argc, argv)) return wrong_usage;
  const auto& config = session.configData();
  const bool lists = config.showHelp || config.listTests || config.listTags || config.listReporters;
  const int result = session.run();
  return result == 0 && !lists && executed_tests == 0 ? 3 : result;
}
