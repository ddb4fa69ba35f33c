// A tiny Llama behind an engine thread, which answers in letters.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>

#include "serve/engine_thread.h"
#include "tests/support.h"

namespace lathe::test {

struct TinyChat : GoldenLlama {
  TinyChat() { write_characters("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ012345678"); }
  std::unique_ptr<ChatModel> load() const {
    return std::make_unique<ChatModel>(folder.path().string(), LoadOptions{ComputeDtype::float32});
  }
};

// What a submission's listener was told, and waiting for its end.
class Told {
 public:
  EngineThread::Listener listener() {
    return [this](AnswerEvents events) {
      const std::lock_guard lock(mutex_);
      finished_ |= events.finished;
      failure = events.failure;
      for (auto& e : events.events)
        if (e.event.completion) completions.push_back({e.request, *e.event.completion});
      changed_.notify_all();
    };
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_; });
  }

  std::vector<std::pair<size_t, Completion>> completions;
  std::string failure;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool finished_ = false;
};

// Waits until the model is loaded.
struct ReadyEngine {
  std::mutex mutex;
  std::condition_variable changed;
  bool told = false;
  EngineThread thread;

  ReadyEngine(EngineThread::Load load, int64_t most_sequences)
      : thread(std::move(load), most_sequences, [this] {
          const std::lock_guard lock(mutex);
          told = true;
          changed.notify_all();
        }) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return told; });
  }
};

}  // namespace lathe::test
