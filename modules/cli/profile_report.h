// What --profile shows: a table on standard error at the end, and a trace for the browser's viewer.
#pragma once
#include <optional>
#include <string>

#include "cli/model_options.h"
#include "kernels/peak_rates.h"
#include "tensor/profiler.h"

namespace lathe {

// What this machine reaches, per second, which a call's bytes and operations are held against. 0: not known.
struct ProfileCeilings {
  double bytes = 0;
  PeakRates operations;
};

// One line a row, by phase and then by time; the last two are what passed between kernels, and the whole, so that the
// column of times adds up. "of ceiling" is the time that the ceilings allow over the time that was taken.
std::string profile_table(const Profiler& profiler, const ProfileCeilings& ceilings);
// Chrome's trace-event format ("Trace Event Format", complete events "X"), which chrome://tracing and Perfetto read.
// Written under a temporary name and renamed when whole. Throws Error naming the file.
void write_profile_trace(const Profiler& profiler, const std::string& path);

// Profiles from here to finish() where --profile asks for it, on the first rank, and does nothing elsewhere.
class ProfileReport {
 public:
  explicit ProfileReport(const ModelOptions& options);
  // Prints the table and writes the trace.
  void finish();

 private:
  std::optional<Profiler> profiler_;
  std::string trace_;  // empty: none
};

}  // namespace lathe
