// See data_files.h.
#include "train/data_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "formats/mapped_file.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"
#include "text/unicode/utf8.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// What is taken from a folder; any other file that is named is text.
std::optional<DataFile::Kind> kind_of(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".txt" || extension == ".md") return DataFile::Kind::text;
  if (extension == ".jsonl") return DataFile::Kind::lines;
  if (extension == ".npy") return DataFile::Kind::ids;
  return std::nullopt;
}

void add_folder(const std::string& folder, std::vector<DataFile>& files) {
  std::vector<DataFile> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (const auto kind = kind_of(entry.path()); kind && entry.is_regular_file())
      found.push_back({entry.path().string(), *kind});
  check(!found.empty(), "data", "the folder {} has no .txt, .md, .jsonl or .npy file", folder);
  std::sort(found.begin(), found.end(), [](const DataFile& a, const DataFile& b) { return a.path < b.path; });
  files.insert(files.end(), found.begin(), found.end());
}

constexpr const char* kLearntKeys[] = {"text", "prompt", "completion", "messages", "content", "chosen", "rejected"};

// The strings of a record that may be learnt from.
void hand_on_texts(const nlohmann::ordered_json& value, const std::function<void(std::string_view)>& f) {
  if (value.is_string()) return f(value.get_ref<const std::string&>());
  if (value.is_array()) {
    for (const auto& element : value) hand_on_texts(element, f);
    return;
  }
  for (const char* key : kLearntKeys)
    if (value.contains(key)) hand_on_texts(value.at(key), f);
}

}  // namespace

std::vector<DataFile> list_data_files(const std::vector<std::string>& paths) {
  std::vector<DataFile> files;
  for (const std::string& path : paths) {
    std::error_code ignored;
    check(fs::exists(path, ignored), "data", "{} does not exist", path);
    if (fs::is_directory(path, ignored)) {
      add_folder(path, files);
      continue;
    }
    if (fs::path(path).extension() == ".json")
      throw Error(fmt::format("data: {} ends in .json, expected .txt, .jsonl or .npy", path),
                  "records are JSON, one a line, in a file that ends in .jsonl");
    files.push_back({path, kind_of(path).value_or(DataFile::Kind::text)});
  }
  for (const DataFile& file : files)
    check((file.kind == DataFile::Kind::ids) == (files.front().kind == DataFile::Kind::ids), "data",
          "{} and {} cannot be read together: one holds ids, one text", files.front().path, file.path);
  return files;
}

void for_each_text(const std::vector<DataFile>& files, bool skip_bad_lines,
                   const std::function<void(std::string_view)>& f) {
  for (const DataFile& file : files) {
    const auto mapped = MappedFile::open(file.path);
    const std::string_view text(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
    if (file.kind == DataFile::Kind::text) {
      check_utf8(text, file.path.c_str());
      f(text);
      continue;
    }
    for_each_text_line(text, [&](std::string_view line, int64_t number) {
      try {
        hand_on_texts(parse_ordered_json(line, fmt::format("{}: line {}", file.path, number)), f);
      } catch (const Error&) {
        if (!skip_bad_lines) throw;
      }
    });
  }
}

}  // namespace lathe
