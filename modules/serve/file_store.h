// The files of /v1/files, in a folder that outlives the server.
//
//   DIR/lock            held while a server uses the folder
//   DIR/files/ID        a file's bytes
//   DIR/files/ID.json   what is known of it; without this one there is no such file
//
// Both are renamed into their places, so a server that is killed leaves a whole file or none.
#pragma once
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct StoredFile {
  std::string id, filename, purpose;
  int64_t bytes = 0, created = 0;  // seconds since 1970
  nlohmann::ordered_json json() const;
};

// May be used from any thread.
class FileStore {
 public:
  // Makes the folder where there is none. Throws Error where it cannot be used, or another server uses it.
  explicit FileStore(const std::string& folder);
  ~FileStore();
  FileStore(const FileStore&) = delete;
  FileStore& operator=(const FileStore&) = delete;

  // Throws Error where the disk does not take it.
  StoredFile add(const std::string& filename, const std::string& purpose, std::string_view bytes);
  // The file at `path`, which is written and may not be empty, moves in under a new name. Done again, after a crash
  // midway, it ends the same.
  StoredFile adopt(const std::string& path, StoredFile file);
  std::vector<StoredFile> list() const;  // the newest first
  // These throw ApiError (404) where there is none.
  StoredFile find(const std::string& id) const;
  std::string path(const std::string& id) const;
  void remove(const std::string& id);
  // Where the bytes of a file of this name lie, if there is one.
  std::string content(const std::string& id) const { return folder_ + "/" + id; }

 private:
  void write_facts(const StoredFile& file) const;

  std::string folder_;
  int lock_ = -1;
  mutable std::mutex mutex_;  // of what follows
  std::map<std::string, StoredFile> files_;
};

}  // namespace lathe
