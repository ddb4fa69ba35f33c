// See profiler.h. Names are looked up before the clock is read at a call's begin and after it is read at its end, so
// that the profiler's own cost (0.12 us a call, and the making of its name) is seen between kernels and not in them.
#include "tensor/profiler.h"

#include "tensor/errors.h"

namespace lathe {

std::atomic<Profiler*> Profiler::active_{nullptr};

Profiler::Profiler(bool keep_events) : keep_events_(keep_events) {
  Profiler* none = nullptr;
  check(active_.compare_exchange_strong(none, this), "profile", "another profiler is active, expected none");
}

Profiler::~Profiler() { stop(); }

void Profiler::stop() {
  Profiler* self = this;
  if (active_.compare_exchange_strong(self, nullptr)) stopped_ = now();
}

int64_t Profiler::now() const {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start_).count();
}

// False, and nothing recorded, on another thread than the profiler's own.
bool Profiler::begin(ProfiledCall call) {
  if (std::this_thread::get_id() != thread_) return false;
  const Row* outermost = open_.empty() ? nullptr : &rows_[open_.front().row];
  const std::string phase = outermost != nullptr && outermost->is_phase() ? outermost->name : std::string();
  const auto [found, added] = row_of_.try_emplace({phase, call.name}, rows_.size());
  if (added) rows_.push_back({phase, std::move(call.name), call.kind});
  open_.push_back({found->second, 0, 0, call.bytes, call.operations});
  open_.back().begin = now();
  return true;
}

void Profiler::end() {
  const int64_t end = now();
  const Open call = open_.back();
  open_.pop_back();
  const int64_t duration = end - call.begin;
  if (!open_.empty()) open_.back().inside += duration;
  Row& row = rows_[call.row];
  ++row.calls;
  row.seconds += static_cast<double>(duration - call.inside) * 1e-9;
  row.bytes += call.bytes;
  row.operations += call.operations;
  if (!keep_events_) return;
  if (events_.size() < kMostEvents)
    events_.push_back({call.row, call.begin, duration, call.bytes, call.operations});
  else
    ++events_left_out_;
}

}  // namespace lathe
