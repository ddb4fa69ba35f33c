// Ranks that are threads of one process: the laws of several ranks, without MPI.
#pragma once
#include <algorithm>
#include <barrier>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "tensor/communicator.h"

namespace lathe::test {

class ThreadRanks {
 public:
  explicit ThreadRanks(int size) : size_(size), sent_(static_cast<size_t>(size)), all_(size) {}

  // f(ranks) on each of them. It must not throw: the others would wait.
  void run(const std::function<void(Communicator& ranks)>& f) {
    std::vector<std::thread> threads;
    for (int r = 0; r < size_; ++r)
      threads.emplace_back([this, r, &f] {
        Rank rank(*this, r);
        f(rank);
      });
    for (std::thread& t : threads) t.join();
  }

 private:
  class Rank : public Communicator {
   public:
    Rank(ThreadRanks& all, int rank) : all_(all), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return all_.size_; }
    void exchange(std::span<const std::span<const std::byte>> send,
                  std::span<const std::span<std::byte>> recv) override {
      const auto me = static_cast<size_t>(rank_);
      all_.sent_[me].assign(send.begin(), send.end());
      all_.all_.arrive_and_wait();
      for (size_t r = 0; r < recv.size(); ++r) {
        if (r == me) continue;
        const std::span<const std::byte> from = all_.sent_[r][me];
        if (from.size() != recv[r].size()) std::terminate();  // one side expects another message
        std::copy(from.begin(), from.end(), recv[r].begin());
      }
      all_.all_.arrive_and_wait();
    }
    void abort(int) override { std::terminate(); }

   private:
    ThreadRanks& all_;
    int rank_;
  };

  int size_;
  std::vector<std::vector<std::span<const std::byte>>> sent_;  // by sender
  std::barrier<> all_;
};

}  // namespace lathe::test
