// The helpers of tests/support.h; POSIX only, as the library is.
#include "tests/support.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>

#include "tensor/stream.h"
#include "tests/catch.h"

#if __has_include(<catch2/interfaces/catch_interfaces_capture.hpp>)
#include <catch2/interfaces/catch_interfaces_capture.hpp>
#endif

namespace lathe::test {
namespace {

std::set<std::string>& skipped_tests() {
  static std::set<std::string> names;
  return names;
}

// A descriptor of a nameless file that holds `text`, read position at its start.
int file_with(std::string_view text) {
  std::FILE* file = std::tmpfile();
  if (!file) throw std::runtime_error("cannot make a temporary file");
  std::fwrite(text.data(), 1, text.size(), file);
  std::rewind(file);
  const int descriptor = dup(fileno(file));
  std::fclose(file);
  return descriptor;
}

std::string content(int descriptor) {
  std::string text;
  char buffer[4096];
  lseek(descriptor, 0, SEEK_SET);
  for (ssize_t n; (n = read(descriptor, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<size_t>(n));
  close(descriptor);
  return text;
}

}  // namespace

std::filesystem::path source_dir() { return LATHE_SOURCE_DIR; }

std::string golden_path(const std::string& name) { return (source_dir() / "tests" / "goldens" / name).string(); }

std::vector<std::string> goldens() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(source_dir() / "tests" / "goldens"))
    if (std::filesystem::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Device> tested_devices() {
  if (const char* only = std::getenv("LATHE_TEST_DEVICE")) return {parse_device(only)};
  std::vector<Device> devices{Device{}};
  if (Stream::devices() > 0) devices.push_back({Device::Kind::cuda});
  return devices;
}

bool needs_cuda_device(const char* program) {
  if (Stream::devices() > 0) return true;
  std::printf("SKIP %s: %s\n0 passed, 0 failed, 1 skipped\n", program, Stream::why_not({Device::Kind::cuda}).c_str());
  std::fflush(stdout);
  _exit(0);
}

std::optional<std::filesystem::path> shared_dir() {
  const char* variable = std::getenv("LATHE_SHARED");
  const std::filesystem::path path = variable ? std::filesystem::path(variable) : source_dir() / ".." / "shared";
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::nullopt;
  return path.lexically_normal();
}

std::optional<std::filesystem::path> demo_model() {
  const auto path = source_dir() / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  return path;
}

bool is_recipe(const std::filesystem::path& path) { return read_file(path).find("\ntraining:") != std::string::npos; }

void skip(std::string_view why) {
  const std::string name{Catch::getResultCapture().getCurrentTestName()};
  if (!skipped_tests().insert(name).second) return;
  std::printf("SKIP %s: %.*s\n", name.c_str(), static_cast<int>(why.size()), why.data());
  SUCCEED("skipped");
}

int skipped_count() { return static_cast<int>(skipped_tests().size()); }

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (std::filesystem::temp_directory_path() / "lathe-test-XXXXXX").string();
  if (!mkdtemp(pattern.data())) throw std::runtime_error("cannot make a temporary folder " + pattern);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

namespace {

std::string lathe_program() {
  const char* variable = std::getenv("LATHE_PROGRAM");
  return variable ? variable : LATHE_PROGRAM;
}

CommandResult run_program(std::string program, const std::vector<std::string>& arguments,
                          std::string_view standard_input, const std::vector<std::string>& environment) {
  std::vector<char*> argv{program.data()};
  std::vector<std::string> copy = arguments;
  for (std::string& argument : copy) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<std::string> added = environment;

  // Files, not pipes: no output is long enough to block the child, and nothing has to be read while it runs.
  const int in = file_with(standard_input), out = file_with({}), err = file_with({});
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("cannot start " + program);
  if (child == 0) {
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (std::string& entry : added) putenv(entry.data());
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  wait4(child, &status, 0, &usage);
  close(in);
  CommandResult result{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out), content(err),
                       static_cast<size_t>(usage.ru_maxrss) * 1024};
  if (result.exit_code == 127) throw std::runtime_error("cannot start " + program);
  return result;
}

}  // namespace

CommandResult run_lathe(const std::vector<std::string>& arguments, std::string_view standard_input,
                        const std::vector<std::string>& environment) {
  return run_program(lathe_program(), arguments, standard_input, environment);
}

CommandResult run_shell(const std::string& script) {
  return run_program("/bin/sh", {"-c", script}, {}, {"LATHE=" + lathe_program()});
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf() || file.peek() == EOF)) throw std::runtime_error("cannot read " + path.string());
  return text.str();
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path.string());
}

GoldenLlama::GoldenLlama() {
  const std::filesystem::path golden = source_dir() / "tests" / "goldens" / "llama_untied_gqa";
  for (const char* name : {"config.json", "model.safetensors"}) std::filesystem::copy_file(golden / name, file(name));
}

std::string GoldenLlama::write(const std::string& name, std::string_view text) const {
  write_file(file(name), text);
  return file(name).string();
}

void GoldenLlama::write_characters(const std::string& characters) const {
  std::ostringstream vocabulary;
  for (size_t id = 0; id < characters.size(); ++id)
    vocabulary << (id > 0 ? ", " : "") << '"' << characters[id] << "\": " << id;
  write("tokenizer.json", R"({"added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "vocab": {)" +
                              vocabulary.str() + R"(}, "merges": []}})");
}

}  // namespace lathe::test
