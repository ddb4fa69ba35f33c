// A GGUF model in several files, as llama.cpp's gguf-split writes it (tools/gguf-split of that repository): each has
// its own header and tensors, and says `split.no` (from 0), `split.count` and `split.tensors.count` (of all parts).
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "formats/gguf.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

constexpr std::string_view kEnding = ".gguf", kBetween = "-of-";
constexpr size_t kDigits = 5;

// The five digits at `begin`; -1 where something else stands there.
int64_t digits_at(const std::string& text, size_t begin) {
  int64_t number = 0;
  for (size_t i = begin; i < begin + kDigits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    number = 10 * number + (text[i] - '0');
  }
  return number;
}

// The file's place among the parts, as its metadata and its name say together.
GgufPartName checked_name(const GgufFile& file) {
  const int64_t number = file.get<int64_t>("split.no").value_or(0) + 1, count = file.require<int64_t>("split.count");
  const auto name = parse_gguf_part_name(file.path());
  if (!name || name->number != number || name->count != count)
    throw Error(
        fmt::format("gguf: {} is part {} of {} of a split model, but its name does not end in -{:05}-of-{:05}.gguf",
                    file.path(), number, count, number, count),
        "give the parts the names that they were published under: the others are looked for by this one's");
  return *name;
}

void check_all_present(const GgufPartName& name) {
  std::vector<std::string> missing;
  int64_t more = 0;
  for (int64_t part = 1; part <= name.count; ++part) {
    const std::string path = name.of(part);
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored)) continue;
    missing.size() < 5 ? missing.push_back(path) : void(++more);
  }
  check(missing.empty(), "gguf", "{} is one of {} parts of a split model; missing: {}{}", name.of(name.number),
        name.count, fmt::join(missing, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace

std::optional<GgufPartName> parse_gguf_part_name(const std::string& path) {
  constexpr size_t kTail = 1 + kDigits + kBetween.size() + kDigits + kEnding.size();
  if (path.size() < kTail || !path.ends_with(kEnding)) return std::nullopt;
  const size_t dash = path.size() - kTail, between = dash + 1 + kDigits;
  GgufPartName name{path.substr(0, dash), digits_at(path, dash + 1), digits_at(path, between + kBetween.size())};
  const bool valid = path[dash] == '-' && path.substr(between, kBetween.size()) == kBetween && name.number >= 1 &&
                     name.number <= name.count;
  return valid ? std::optional(name) : std::nullopt;
}

std::string GgufPartName::of(int64_t part) const {
  return fmt::format("{}-{:05}{}{:05}{}", stem, part, kBetween, count, kEnding);
}

std::shared_ptr<const GgufFile> GgufFile::open(const std::string& path) {
  std::shared_ptr<GgufFile> file = open_part(path);
  return file->get<int64_t>("split.count").value_or(1) > 1 ? open_parts(checked_name(*file)) : file;
}

std::shared_ptr<GgufFile> GgufFile::open_parts(const GgufPartName& name) {
  check_all_present(name);
  std::shared_ptr<GgufFile> whole = open_part(name.of(1));
  std::map<std::string, std::string> placed;  // tensor -> the file that it is in
  for (const StoredTensor& tensor : whole->tensors_) placed[tensor.name] = whole->path();
  for (int64_t number = 1; number <= name.count; ++number) {
    const std::shared_ptr<GgufFile> part = number == 1 ? whole : open_part(name.of(number));
    checked_name(*part);
    if (number == 1) continue;
    whole->files_.push_back(part->files_[0]);
    for (StoredTensor& tensor : part->tensors_) {
      const auto [at, added] = placed.emplace(tensor.name, part->path());
      check(added, "gguf", "tensor {} is in two parts, {} and {}", quote(tensor.name), at->second, part->path());
      whole->tensors_.push_back(std::move(tensor));
    }
  }
  const auto expected = whole->get<int64_t>("split.tensors.count");
  const auto found = static_cast<int64_t>(whole->tensors_.size());
  check(!expected || *expected == found, "gguf",
        "{}: the metadata 'split.tensors.count' promises {} tensors in all parts, found {}", whole->path(),
        expected.value_or(0), found);
  return whole;
}

std::vector<std::string> GgufFile::paths() const {
  std::vector<std::string> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

}  // namespace lathe
