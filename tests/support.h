// What the tests of several folders share: where data lies, how a test that lacks it is counted, temporary files, and
// the program as a child process.
#pragma once
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/cpu_features.h"
#include "tensor/tensor.h"

namespace lathe::test {

// Whether this build runs under a sanitizer, which multiplies memory and time. Such a build tries fewer of like cases:
// see tried() and tested_isas().
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
#else
inline constexpr bool kSanitized = false;
#endif

// Whether its programs run in an emulator of another processor (scripts/check_arm.sh), which is slower still.
#if defined(LATHE_CROSS_BUILT)
inline constexpr bool kCrossBuilt = true;
#else
inline constexpr bool kCrossBuilt = false;
#endif

// Of like cases, those that this build tries: all of them, or every `step`-th under a sanitizer or in an emulator, or
// where `fewer` says so.
template <class T>
std::vector<T> tried(std::span<const T> cases, size_t step, bool fewer = kSanitized || kCrossBuilt) {
  std::vector<T> list;
  for (size_t i = 0; i < cases.size(); i += fewer ? step : 1) list.push_back(cases[i]);
  return list;
}

// The instruction sets that tests go through: all that this machine has; under a sanitizer the portable form, whose
// kernels alone are instrumented, and the best one, and so in an emulator, which can be a machine that has less.
inline std::vector<CpuIsa> tested_isas() {
  const std::vector<CpuIsa> all = available_isas();
  return (kSanitized || kCrossBuilt) && all.size() > 1 ? std::vector<CpuIsa>{all.front(), all.back()} : all;
}

// The root of the source tree: tests/ and configs/ are below it.
std::filesystem::path source_dir();

// The name of every folder of tests/goldens with a model in it, in their order.
std::vector<std::string> goldens();
// The folder of one of them.
std::string golden_path(const std::string& name);
// The CPU, and a CUDA device where the build and the machine have one: the emulator in programs that are called so.
// $LATHE_TEST_DEVICE: that one alone.
std::vector<Device> tested_devices();
// Ends the program, its tests counted as one that was skipped, where there is no such device; true elsewhere.
bool needs_cuda_device(const char* program);

// The data that is shared with the project but is no part of it: $LATHE_SHARED, else ../shared beside the source tree.
// Nothing where there is none: the test then says skip() and returns.
std::optional<std::filesystem::path> shared_dir();

// SmolLM2-135M-Instruct.Q4_1.gguf as `make demo` leaves it in models/; nothing before its first run.
std::optional<std::filesystem::path> demo_model();

// Prints "SKIP <test>: <why>" and counts the test case as skipped. It does not end the test (Catch2 2 has no such
// thing), so the caller returns:
//   const auto shared = shared_dir();
//   if (!shared) return skip("needs ../shared/models");
void skip(std::string_view why);

// Whether a file of configs/ is the recipe of a training run and not a model.
bool is_recipe(const std::filesystem::path& path);

// The test cases that said skip() so far.
int skipped_count();

// An empty folder that goes with its object.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A copy of the golden Llama (61 tokens, a context of 64) that a test may add to and break.
struct GoldenLlama {
  TemporaryDirectory folder;

  GoldenLlama();
  std::filesystem::path file(const std::string& name) const { return folder.path() / name; }
  std::string write(const std::string& name, std::string_view text) const;  // the file's path
  // A tokenizer.json with a token a character of ASCII, numbered in their order.
  void write_characters(const std::string& characters) const;
};

struct CommandResult {
  int exit_code;  // 128 + the signal's number, where a signal ended it
  std::string standard_output, standard_error;
  size_t peak_memory = 0;  // bytes resident at most, never less than the test had when it started the program
};

// Runs the program (build/lathe, or $LATHE_PROGRAM) with these arguments and waits for it. `standard_input` is all
// that it can read; `environment` is added to the test's own, "NAME=value" each. Throws std::runtime_error where the
// program cannot be started.
CommandResult run_lathe(const std::vector<std::string>& arguments, std::string_view standard_input = {},
                        const std::vector<std::string>& environment = {});

// Runs a script of sh in which "$LATHE" is the program: for what is done to its standard streams.
CommandResult run_shell(const std::string& script);

// Reads or writes a whole file; throws std::runtime_error that names it.
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace lathe::test
