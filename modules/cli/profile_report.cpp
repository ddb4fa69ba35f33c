#include "cli/profile_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "formats/atomic_file.h"
#include "tensor/communicator.h"
#include "tensor/cpu_features.h"
#include "tensor/memory_bandwidth.h"
#include "tensor/stream.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

using Row = Profiler::Row;

std::string rate(double amount, double seconds) {
  return amount > 0 && seconds > 0 ? fmt::format("{:.1f}", amount / seconds * 1e-9) : "-";
}

std::string share_of_ceiling(const Row& row, const ProfileCeilings& ceilings) {
  const double peak =
      row.kind == ProfiledCall::Kind::integers ? ceilings.operations.integers : ceilings.operations.floats;
  double least = 0;  // seconds
  if (ceilings.bytes > 0) least = static_cast<double>(row.bytes) / ceilings.bytes;
  if (peak > 0) least = std::max(least, static_cast<double>(row.operations) / peak);
  return least > 0 && row.seconds > 0 ? fmt::format("{:.0f}%", 100 * least / row.seconds) : "-";
}

std::string line(const Row& row, double whole, const ProfileCeilings& ceilings) {
  return fmt::format("{:8} {:38} {:>8} {:10.2f} {:5.1f}% {:>7} {:>8} {:>10}\n", row.phase, row.name,
                     row.calls > 0 ? std::to_string(row.calls) : "", row.seconds * 1e3, 100 * row.seconds / whole,
                     rate(static_cast<double>(row.bytes), row.seconds),
                     rate(static_cast<double>(row.operations), row.seconds), share_of_ceiling(row, ceilings));
}

}  // namespace

std::string profile_table(const Profiler& profiler, const ProfileCeilings& ceilings) {
  const double whole = std::max(profiler.seconds(), 1e-9);
  std::map<std::string, double> phase_seconds;
  std::vector<const Row*> rows;
  double in_kernels = 0;
  for (const Row& row : profiler.rows()) {
    if (row.is_phase()) continue;
    rows.push_back(&row);
    phase_seconds[row.phase] += row.seconds;
    in_kernels += row.seconds;
  }
  std::sort(rows.begin(), rows.end(), [&](const Row* a, const Row* b) {
    const double seconds_a = phase_seconds[a->phase], seconds_b = phase_seconds[b->phase];
    return seconds_a != seconds_b ? seconds_a > seconds_b : a->seconds > b->seconds;
  });
  std::string table = fmt::format("{:8} {:38} {:>8} {:>10} {:>6} {:>7} {:>8} {:>10}\n", "phase", "operation", "calls",
                                  "ms", "share", "GB/s", "GFLOP/s", "of ceiling");
  for (const Row* row : rows) table += line(*row, whole, ceilings);
  Row between{"", "between kernels"}, total{"", "total"};
  between.seconds = whole - in_kernels;
  total.seconds = whole;
  return table + line(between, whole, {}) + line(total, whole, {});
}

void write_profile_trace(const Profiler& profiler, const std::string& path) {
  AtomicFile file(path);
  file.write("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
  const char* separator = "";
  for (const Profiler::Event& e : profiler.events()) {
    const Row& row = profiler.rows()[e.row];
    const auto seconds = static_cast<double>(e.duration) * 1e-9;
    // Names are the program's own: letters, digits and spaces, nothing to escape. Times are microseconds.
    std::string event =
        fmt::format(R"({}{{"name": "{}", "cat": "{}", "ph": "X", "pid": 1, "tid": 1, "ts": {}.{:03}, "dur": {}.{:03})",
                    separator, row.name, row.is_phase() ? "phase" : "kernel", e.begin / 1000, e.begin % 1000,
                    e.duration / 1000, e.duration % 1000);
    if (e.bytes > 0 || e.operations > 0)
      event += fmt::format(R"(, "args": {{"bytes": {}, "operations": {}, "GB/s": "{}", "GFLOP/s": "{}"}})", e.bytes,
                           e.operations, rate(static_cast<double>(e.bytes), seconds),
                           rate(static_cast<double>(e.operations), seconds));
    file.write(event + "}");
    separator = ",\n";
  }
  file.write("\n]}\n");
  file.commit();
}

ProfileReport::ProfileReport(const ModelOptions& options) : trace_(options.profile_trace) {
  if (options.profile && world().is_first()) profiler_.emplace(!trace_.empty());
}

void ProfileReport::finish() {
  if (!profiler_) return;
  profiler_->stop();
  const ProfileCeilings ceilings{measure_read_bandwidth(), measure_peak_rates()};
  fmt::print(stderr,
             "{}lathe: ceilings of {} threads, {}: {:.1f} GB/s read, {:.0f} GFLOP/s in f32, {:.0f} Gop/s in int8\n",
             profile_table(*profiler_, ceilings), thread_team().size(), name(cpu_isa()), ceilings.bytes * 1e-9,
             ceilings.operations.floats * 1e-9, ceilings.operations.integers * 1e-9);
  if (const Graph::Counts graphs = Graph::counts(); graphs.recorded > 0)
    fmt::print(stderr, "lathe: graphs: {} recorded, replayed {} times\n", graphs.recorded, graphs.replayed);
  if (trace_.empty()) return;
  write_profile_trace(*profiler_, trace_);
  fmt::print(stderr, "lathe: wrote {} calls to {} (for chrome://tracing or ui.perfetto.dev)\n",
             profiler_->events().size(), trace_);
  if (profiler_->events_left_out() > 0)
    fmt::print(stderr, "lathe: warning: {} later calls are in the table alone\n", profiler_->events_left_out());
}

}  // namespace lathe
