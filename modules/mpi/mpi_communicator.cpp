// liblathe_mpi: the back end of Communicator over MPI, loaded where a launcher has started several processes.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tensor/communicator.h"

namespace lathe {
namespace {

// What goes wrong inside MPI ends all ranks, and MPI says where: its default handler of errors.
class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator() {
    int provided;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (provided >= MPI_THREAD_SERIALIZED) return;
    std::fputs("lathe: this MPI knows no MPI_THREAD_SERIALIZED, which a server's threads need\n", stderr);
    abort(1);
  }
  ~MpiCommunicator() override { MPI_Finalize(); }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void exchange(std::span<const std::span<const std::byte>> send, std::span<const std::span<std::byte>> recv) override {
    constexpr size_t kMost = size_t{1} << 30;  // bytes of a message: MPI counts them in an int
    std::vector<MPI_Request> requests;
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      const auto& in = recv[static_cast<size_t>(r)];
      for (size_t at = 0; at < in.size(); at += kMost)
        MPI_Irecv(in.data() + at, static_cast<int>(std::min(kMost, in.size() - at)), MPI_BYTE, r, 0, MPI_COMM_WORLD,
                  &requests.emplace_back());
      const auto& out = send[static_cast<size_t>(r)];
      for (size_t at = 0; at < out.size(); at += kMost)
        MPI_Isend(out.data() + at, static_cast<int>(std::min(kMost, out.size() - at)), MPI_BYTE, r, 0, MPI_COMM_WORLD,
                  &requests.emplace_back());
    }
    wait(requests);
  }

  void abort(int code) override {
    MPI_Abort(MPI_COMM_WORLD, code);
    std::abort();
  }

 private:
  // MPI's own wait spins, as this does for the 20 ms in which ranks of a pass find each other: who waits longer waits
  // for a server's next request, and leaves the cores to others.
  static void wait(std::vector<MPI_Request>& requests) {
    const auto begin = std::chrono::steady_clock::now();
    for (int done = 0; !done;) {
      MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
      if (!done && std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(20))
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  int rank_ = 0, size_ = 1;
};

}  // namespace
}  // namespace lathe

extern "C" lathe::Communicator* lathe_mpi_communicator() { return new lathe::MpiCommunicator; }
