#include "tensor/communicator.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include "tensor/cores.h"
#include "tensor/errors.h"
#include "tensor/threads.h"

namespace lathe {
namespace {

using Sent = std::span<const std::byte>;
using Received = std::span<std::byte>;

class OneProcess : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void exchange(std::span<const Sent>, std::span<const Received>) override {}
  void abort(int code) override { std::exit(code); }
};

Sent bytes_of(const float* data, int64_t begin, int64_t end) {
  return std::as_bytes(std::span(data + begin, static_cast<size_t>(end - begin)));
}
Received writable_bytes_of(float* data, int64_t begin, int64_t end) {
  return std::as_writable_bytes(std::span(data + begin, static_cast<size_t>(end - begin)));
}

// Every rank's `mine`, one after another.
template <class T>
std::vector<T> gather_all(Communicator& ranks, std::span<const T> mine) {
  const auto size = static_cast<size_t>(ranks.size());
  std::vector<T> all(size * mine.size());
  const std::vector<Sent> send(size, std::as_bytes(mine));
  std::vector<Received> receive;
  for (size_t r = 0; r < size; ++r)
    receive.push_back(std::as_writable_bytes(std::span(all).subspan(r * mine.size(), mine.size())));
  std::copy(mine.begin(), mine.end(), all.begin() + ranks.rank() * std::ssize(mine));
  ranks.exchange(send, receive);
  return all;
}

// 0 where the variable does not hold a number.
int number_of(const char* variable) {
  const char* text = std::getenv(variable);
  int value = 0;
  if (text != nullptr) std::from_chars(text, text + std::strlen(text), value);
  return value;
}

// How many processes a launcher says it has started.
int launched_processes() {
  // Open MPI; MPICH, Intel MPI and Slurm's pmi2; MVAPICH; last Slurm, which may only have started the launcher.
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"})
    if (const int processes = number_of(variable); processes > 0) return processes;
  const int tasks = number_of("SLURM_STEP_NUM_TASKS");
  if (tasks > 1 && std::getenv("PMIX_RANK") == nullptr)
    throw Error(fmt::format("mpi: srun started {} processes that cannot find each other", tasks), "srun --mpi=pmix");
  return std::max(tasks, 1);
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

std::unique_ptr<Communicator> open_mpi(int processes) {
  Dl_info self{};
  dladdr(reinterpret_cast<const void*>(&world), &self);
  const std::filesystem::path path =
      std::filesystem::absolute(self.dli_fname == nullptr ? "" : self.dli_fname).parent_path() / "liblathe_mpi.so";
  const std::string started = fmt::format("mpi: {} processes were started together", processes);
  // Global: components that MPI loads in turn want its symbols.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    const std::string reason = std::filesystem::exists(path) ? dlerror() : "this build has no " + path.string();
    throw Error(fmt::format("{}: {}", started, reason),
                "apt-get install libopenmpi-dev openmpi-bin, and build again; alone, a process needs no MPI");
  }
  const auto make = reinterpret_cast<Communicator* (*)()>(dlsym(library, "lathe_mpi_communicator"));
  check(make != nullptr, "mpi", "{} has no function lathe_mpi_communicator", path.string());
  std::unique_ptr<Communicator> made(make());
  if (made->size() == processes) return made;
  throw Error(fmt::format("{}, but MPI knows of {}", started, made->size()),
              "the launcher must be of the MPI that Lathe was built with (mpirun of Open MPI, or srun --mpi=pmix)");
}

std::unique_ptr<Communicator> opened;  // null: the world is not open, or one process

}  // namespace

Communicator& Communicator::one() {
  static OneProcess process;
  return process;
}

void Communicator::barrier() { sum(0.0); }

void Communicator::sum(std::span<double> values) {
  if (alone()) return;
  const std::vector<double> all = gather_numbers(values);
  std::fill(values.begin(), values.end(), 0.0);
  for (size_t i = 0; i < all.size(); ++i) values[i % values.size()] += all[i];
}

double Communicator::sum(double value) {
  sum(std::span(&value, 1));
  return value;
}

std::vector<double> Communicator::gather_numbers(std::span<const double> mine) { return gather_all(*this, mine); }

std::vector<std::string> Communicator::gather_texts(const std::string& text) {
  const auto length = static_cast<int64_t>(text.size());
  const std::vector<int64_t> lengths = gather_all(*this, std::span(&length, 1));
  std::string padded = text;
  padded.resize(static_cast<size_t>(*std::max_element(lengths.begin(), lengths.end())));
  const std::vector<char> all = gather_all(*this, std::span<const char>(padded));
  std::vector<std::string> texts;
  for (size_t r = 0; r < lengths.size(); ++r)
    texts.emplace_back(all.data() + r * padded.size(), static_cast<size_t>(lengths[r]));
  return texts;
}

std::string Communicator::first_text(const std::string& text) {
  for (std::string& found : gather_texts(text))
    if (!found.empty()) return std::move(found);
  return {};
}

void Communicator::reduce_scatter(float* data, std::span<const int64_t> borders) {
  if (alone()) return;
  constexpr int64_t kChunk = 1 << 18;  // of each part at a time: what bounds the memory for the others' numbers
  const auto me = static_cast<size_t>(rank()), ranks = static_cast<size_t>(size());
  int64_t longest = 0;
  for (size_t r = 0; r < ranks; ++r) longest = std::max(longest, borders[r + 1] - borders[r]);
  const int64_t chunk = std::min(kChunk, longest);
  std::vector<float> others(ranks * static_cast<size_t>(chunk));
  for (int64_t offset = 0; offset < longest; offset += chunk) {
    const auto begin = [&](size_t r) { return std::min(borders[r] + offset, borders[r + 1]); };
    const auto end = [&](size_t r) { return std::min(borders[r] + offset + chunk, borders[r + 1]); };
    const int64_t own = end(me) - begin(me);
    std::vector<Sent> send;
    std::vector<Received> receive;
    std::vector<const float*> parts;  // of the own chunk, by rank
    for (size_t r = 0; r < ranks; ++r) {
      float* const part = others.data() + r * static_cast<size_t>(chunk);
      send.push_back(bytes_of(data, begin(r), end(r)));
      receive.push_back(writable_bytes_of(part, 0, own));
      parts.push_back(r == me ? data + begin(me) : part);
    }
    exchange(send, receive);
    parallel_for(own, kGrainElements, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        float total = parts[0][i];
        for (size_t r = 1; r < ranks; ++r) total += parts[r][i];
        data[begin(me) + i] = total;
      }
    });
  }
}

void Communicator::all_gather(float* data, std::span<const int64_t> borders) {
  const auto me = static_cast<size_t>(rank()), ranks = static_cast<size_t>(size());
  const std::vector<Sent> send(ranks, bytes_of(data, borders[me], borders[me + 1]));
  std::vector<Received> receive;
  for (size_t r = 0; r < ranks; ++r) receive.push_back(writable_bytes_of(data, borders[r], borders[r + 1]));
  exchange(send, receive);
}

void Communicator::gather(const float* part, float* whole, std::span<const int64_t> borders) {
  const auto me = static_cast<size_t>(rank()), ranks = static_cast<size_t>(size());
  const int64_t own = borders[me + 1] - borders[me];
  std::vector<Sent> send(ranks);
  std::vector<Received> receive(ranks);
  if (!is_first())
    send[0] = bytes_of(part, 0, own);
  else
    for (size_t r = 1; r < ranks; ++r) receive[r] = writable_bytes_of(whole, borders[r], borders[r + 1]);
  exchange(send, receive);
  if (is_first()) std::copy_n(part, own, whole + borders[0]);
}

void Communicator::all_reduce_sum(std::span<float> data) {
  std::vector<int64_t> borders;
  for (int64_t r = 0; r <= size(); ++r) borders.push_back(std::ssize(data) * r / size());
  reduce_scatter(data.data(), borders);
  all_gather(data.data(), borders);
}

Communicator& world() {
  const int processes = launched_processes();
  if (!opened && processes > 1) opened = open_mpi(processes);
  return opened ? *opened : Communicator::one();
}

std::string place_in_world() {
  return opened ? fmt::format("rank {} of {} on {}", opened->rank(), opened->size(), host_name()) : std::string();
}

void abort_world(int code) {
  if (opened) opened->abort(code);
}

int default_threads(Communicator& ranks) {
  std::string place = host_name() + "\n";
  const std::vector<int> cpus = allowed_cpus();
  for (int cpu = 0; !cpus.empty() && cpu <= cpus.back(); ++cpu)
    place += std::binary_search(cpus.begin(), cpus.end(), cpu) ? '1' : '0';
  int sharing = 0;
  for (const std::string& other : ranks.gather_texts(place)) {
    const size_t begin = place.find('\n');
    bool shares = place.substr(0, begin) == other.substr(0, other.find('\n'));
    bool meets = cpus.empty();
    for (size_t i = begin; shares && i < std::min(place.size(), other.size()); ++i)
      meets = meets || (place[i] == '1' && other[i] == '1');
    sharing += shares && meets;
  }
  return std::getenv("LATHE_THREADS") != nullptr ? default_threads() : std::max(1, default_threads() / sharing);
}

}  // namespace lathe
