// Processes that compute together: ranks 0 to size - 1, each with its part of the work.
//
// A back end brings one operation, `exchange`. Sums are made of it here, in ascending order of ranks, so that as many
// ranks repeat bit for bit. All ranks call the same operations in the same order.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lathe {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Sends send[r] to rank r and receives recv[r] from it, for all r but the own. Both sides know how many bytes it is.
  virtual void exchange(std::span<const std::span<const std::byte>> send,
                        std::span<const std::span<std::byte>> recv) = 0;
  // Ends all ranks at once, with this exit code.
  [[noreturn]] virtual void abort(int code) = 0;

  // A process by itself.
  static Communicator& one();

  bool alone() const { return size() == 1; }
  // Whether this rank writes the files and speaks to the user.
  bool is_first() const { return rank() == 0; }

  void barrier();
  // Over all ranks, in place.
  void sum(std::span<double> values);
  double sum(double value);
  bool any(bool value) { return sum(value ? 1.0 : 0.0) > 0.0; }
  // Each rank's numbers, as many on all of them, one rank after another.
  std::vector<double> gather_numbers(std::span<const double> mine);
  // Each rank's text, by rank.
  std::vector<std::string> gather_texts(const std::string& text);
  // That of the first rank whose text is not empty; empty where all are.
  std::string first_text(const std::string& text);
  // The first rank's.
  std::string broadcast(const std::string& text) { return gather_texts(is_first() ? text : "").front(); }

  // Of arrays that are shared out: rank r has elements [borders[r], borders[r + 1]), and borders.back() is their
  // number. Adds `data` over all ranks, in place; each rank has the sums of its own part alone.
  void reduce_scatter(float* data, std::span<const int64_t> borders);
  // Each rank has its part of `data`; afterwards all of it.
  void all_gather(float* data, std::span<const int64_t> borders);
  // `part` begins at the own border; the first rank has all of them in `whole`, which is not read on the others.
  void gather(const float* part, float* whole, std::span<const int64_t> borders);
  // The sum of `data` over all ranks, on all of them.
  void all_reduce_sum(std::span<float> data);
};

// The processes that mpirun or srun has started with this one; one() where it was started by itself. MPI is loaded at
// the first call, from liblathe_mpi.so beside liblathe. Throws Error where the build has none, or a launcher started
// several processes that cannot find each other. To be called on the main thread.
Communicator& world();
// "rank 1 of 2 on node7" where the world is open and has several ranks; else empty.
std::string place_in_world();
// Ends the other ranks of an open world too; does nothing where there are none.
void abort_world(int code);

// default_threads() of a rank: ranks that may use the same cores share them evenly.
int default_threads(Communicator& ranks);

}  // namespace lathe
