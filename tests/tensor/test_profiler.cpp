// The profiler by hand: what counts where, and that without one nothing happens.
#include <algorithm>
#include <chrono>
#include <thread>

#include "tensor/errors.h"
#include "tensor/profiler.h"
#include "tests/catch.h"

namespace {

using namespace lathe;

void pass_time(int microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

void kernel(const char* name, int64_t bytes, int64_t operations) {
  const ProfileScope profile([&] { return ProfiledCall{name, bytes, operations}; });
  pass_time(200);
}

const Profiler::Row& row(const Profiler& profiler, const std::string& phase, const std::string& name) {
  const auto& rows = profiler.rows();
  const auto found =
      std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.phase == phase && r.name == name; });
  REQUIRE(found != rows.end());
  return *found;
}

}  // namespace

TEST_CASE("without a profiler a scope does not even describe its call") {
  bool described = false;
  {
    const ProfileScope scope([&] {
      described = true;
      return ProfiledCall{"never"};
    });
  }
  CHECK_FALSE(described);
  CHECK(Profiler::current() == nullptr);
}

TEST_CASE("calls of one name and phase share a row, and sums are theirs") {
  Profiler profiler(false);
  for (int step = 0; step < 3; ++step) {
    const ProfileScope phase([] { return ProfiledCall{"decode", 0, 0, ProfiledCall::Kind::phase}; });
    kernel("norm", 100, 40);
    kernel("norm", 10, 4);
  }
  kernel("norm", 1, 1);
  profiler.stop();
  CHECK(row(profiler, "decode", "norm").calls == 6);
  CHECK(row(profiler, "decode", "norm").bytes == 330);
  CHECK(row(profiler, "decode", "norm").operations == 132);
  CHECK(row(profiler, "", "norm").calls == 1);
  CHECK(row(profiler, "", "decode").is_phase());
  CHECK(profiler.rows().size() == 3);
  CHECK(profiler.events().empty());
}

TEST_CASE("time counts for the innermost scope alone, so rows never exceed what passed") {
  Profiler profiler(false);
  {
    const ProfileScope outer([] { return ProfiledCall{"outer"}; });
    pass_time(2000);
    for (int i = 0; i < 10; ++i) kernel("inner", 0, 0);
  }
  profiler.stop();
  double sum = 0;
  for (const Profiler::Row& r : profiler.rows()) sum += r.seconds;
  CHECK(sum <= profiler.seconds());
  CHECK(row(profiler, "", "inner").seconds >= 10 * 200e-6);
  CHECK(row(profiler, "", "outer").seconds >= 2000e-6);
  // Sleeps are long at times, but never counted twice.
  CHECK(row(profiler, "", "outer").seconds <= profiler.seconds() - row(profiler, "", "inner").seconds);
}

TEST_CASE("events lie within the event that encloses them") {
  Profiler profiler(true);
  {
    const ProfileScope outer([] { return ProfiledCall{"decode", 0, 0, ProfiledCall::Kind::phase}; });
    kernel("first", 8, 2);
    kernel("second", 8, 2);
  }
  profiler.stop();
  const auto& events = profiler.events();
  REQUIRE(events.size() == 3);
  CHECK(profiler.rows()[events[2].row].name == "decode");
  for (size_t i = 0; i < 2; ++i) {
    CHECK(events[i].begin >= events[2].begin);
    CHECK(events[i].begin + events[i].duration <= events[2].begin + events[2].duration);
  }
  CHECK(events[0].begin + events[0].duration <= events[1].begin);
  CHECK(profiler.events_left_out() == 0);
}

TEST_CASE("a profiler records its own thread and nothing after its stop") {
  Profiler profiler(false);
  std::thread([] { kernel("elsewhere", 0, 0); }).join();
  profiler.stop();
  const double seconds = profiler.seconds();
  kernel("late", 0, 0);
  profiler.stop();
  CHECK(profiler.rows().empty());
  CHECK(profiler.seconds() == seconds);
}

TEST_CASE("there is one profiler at a time, and the next may follow") {
  {
    const Profiler first(false);
    CHECK_THROWS_AS(Profiler(false), Error);
    CHECK(Profiler::current() == &first);
  }
  CHECK(Profiler::current() == nullptr);
  const Profiler second(false);
  CHECK(Profiler::current() == &second);
}
