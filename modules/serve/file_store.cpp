#include "serve/file_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/atomic_file.h"
#include "formats/json_node.h"
#include "formats/strict_json.h"
#include "serve/answer.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

StoredFile read_facts(const std::string& path) {
  const nlohmann::json json = read_strict_json(path);
  const JsonNode node(json, path);
  return {node.at("id").string(), node.at("filename").string(), node.at("purpose").string(),
          node.at("bytes").integer(0), node.at("created_at").integer()};
}

}  // namespace

nlohmann::ordered_json StoredFile::json() const {
  return {
      {"id", id},           {"object", "file"},     {"bytes", bytes}, {"created_at", created}, {"filename", filename},
      {"purpose", purpose}, {"status", "processed"}};
}

FileStore::FileStore(const std::string& folder) : folder_(folder + "/files") {
  std::error_code error;
  fs::create_directories(folder_, error);
  check(!error, "--data-dir", "cannot make the folder {}: {}", folder_, error.message());
  lock_ = open((folder + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  check(lock_ >= 0, "--data-dir", "cannot write to {}: {}", folder, std::strerror(errno));
  if (flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    close(lock_);
    throw Error(fmt::format("--data-dir: another server uses {}", folder));
  }
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() != ".json") {
      others.push_back(entry.path());
      continue;
    }
    StoredFile file = read_facts(entry.path().string());
    if (fs::exists(content(file.id))) files_.emplace(file.id, std::move(file));
  }
  for (const fs::path& path : others)  // that a server left behind when it was killed
    if (!files_.contains(path.filename().string())) fs::remove(path, error);
}

FileStore::~FileStore() { close(lock_); }

void FileStore::write_facts(const StoredFile& file) const {
  AtomicFile facts(content(file.id) + ".json");
  facts.write(file.json().dump());
  facts.commit();
}

StoredFile FileStore::add(const std::string& filename, const std::string& purpose, std::string_view bytes) {
  StoredFile file{new_id("file"), filename, purpose, std::ssize(bytes), unix_seconds()};
  AtomicFile written(content(file.id));
  written.write(bytes);
  written.commit();
  write_facts(file);
  const std::lock_guard lock(mutex_);
  return files_.emplace(file.id, file).first->second;
}

// What is known of it goes first: bytes without that are taken for the rest of an upload.
StoredFile FileStore::adopt(const std::string& path, StoredFile file) {
  const bool there = fs::exists(path);
  file.bytes = static_cast<int64_t>(fs::file_size(there ? path : content(file.id)));
  write_facts(file);
  if (there) fs::rename(path, content(file.id));
  const std::lock_guard lock(mutex_);
  return files_[file.id] = file;
}

std::vector<StoredFile> FileStore::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<StoredFile> list;
  for (const auto& [id, file] : files_) list.push_back(file);
  std::stable_sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.created > b.created; });
  return list;
}

StoredFile FileStore::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(id);
  if (found == files_.end()) throw ApiError(404, fmt::format("no file {}", quote(id)), "file_id");
  return found->second;
}

std::string FileStore::path(const std::string& id) const { return content(find(id).id); }

void FileStore::remove(const std::string& id) {
  const std::string path = this->path(id);
  const std::lock_guard lock(mutex_);
  fs::remove(path + ".json");
  fs::remove(path);
  files_.erase(id);
}

}  // namespace lathe
