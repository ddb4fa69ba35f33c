// Batches: files of requests that are answered when nobody waits, through a restart too.
//
//   DIR/batches/ID.json     the batch as the API shows it, at its last change of status
//   DIR/batches/ID.output   a line for each request that was answered, as it comes; ID.errors: for each that failed
//
// A line that is written whole is a request that is done: a server that begins anew goes on with the others. Requests
// are read from the disk line by line and sent through the server as if a client had sent them, a few at a time, and
// none while a sequence waits for its turn.
#pragma once
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "serve/file_store.h"
#include "serve/http_server.h"

namespace lathe {

struct BatchHost {
  std::function<void(const std::shared_ptr<Exchange>&)> handle;  // a request, as if a client had sent it
  // f(text of the body) on a worker; what it throws is the answer.
  std::function<void(const std::shared_ptr<Exchange>&, std::function<void(const std::string&)>)> with_text;
  std::function<void(std::function<void()>)> work, post;  // on a worker; on the server's thread
  std::function<bool()> may_begin;                        // ready, and nobody waits
  int64_t most_at_once = 16;                              // requests
};

// What is wrong with a file of requests: an entry of `errors` a line, none where all is well; and how many there are.
struct BatchFileCheck {
  nlohmann::ordered_json errors = nlohmann::ordered_json::array();
  int64_t requests = 0;
};
BatchFileCheck check_batch_file(const std::string& path, const std::string& endpoint);

// Of the server's thread.
class BatchRunner {
 public:
  // Takes up what was under way. Throws Error where the folder cannot be used.
  BatchRunner(const std::string& folder, FileStore& files, BatchHost host);
  ~BatchRunner();

  nlohmann::ordered_json create(nlohmann::ordered_json batch);
  std::vector<nlohmann::ordered_json> list() const;  // the newest first
  // These throw ApiError (404) where there is none.
  nlohmann::ordered_json find(const std::string& id) const;
  nlohmann::ordered_json cancel(const std::string& id);
  // Whether a batch that is not finished reads the file.
  bool reads(const std::string& file_id) const;
  // Sends what may be sent. Called now and then.
  void tick();

 private:
  struct Job;
  struct Line;
  std::string path(const Job& job, const char* extension) const;
  Job& job(const std::string& id) const;
  void save(const Job& job) const;
  void keep(const Job& job) const;
  void resume(Job& job);
  void validate(Job& job);
  void begin(Job& job);
  void fail(Job& job, const std::string& message);
  void advance(Job& job);
  bool send_next(Job& job);
  void send(Job& job, Line line);
  void take(Job& job, const Line& line, const Exchange& exchange);
  void write(Job& job, const Line& line, bool success, const std::string& outcome);
  std::string output_id(const Job& job, const char* extension) const;
  void hand_over(Job& job);
  void end(Job& job);

  std::string folder_;
  FileStore& files_;
  BatchHost host_;
  std::map<std::string, std::unique_ptr<Job>> jobs_;
  int64_t under_way_ = 0;  // requests
};

}  // namespace lathe
