// /v1/files and /v1/batches over a folder (file_store.h, batch_runner.h).
#pragma once
#include <memory>
#include <string>

#include "serve/batch_runner.h"
#include "serve/file_store.h"

namespace lathe {

// Of the server's thread.
class BatchEndpoints {
 public:
  // An empty folder: all of them say that they need --data-dir. Throws Error where the folder cannot be used.
  BatchEndpoints(const std::string& folder, BatchHost host);
  ~BatchEndpoints();

  // False where the path is another endpoint's. Throws ApiError.
  bool handle(const std::shared_ptr<Exchange>& exchange);
  void tick();

 private:
  void files(const std::shared_ptr<Exchange>& exchange, const std::string& id, const std::string& part);
  void batches(const std::shared_ptr<Exchange>& exchange, const std::string& id, const std::string& part);
  void on_worker(const std::shared_ptr<Exchange>& exchange,
                 std::function<nlohmann::ordered_json(const std::string& body)> make,
                 std::function<nlohmann::ordered_json(nlohmann::ordered_json)> then = {});
  nlohmann::ordered_json upload(const std::string& content_type, const std::string& body);
  nlohmann::ordered_json new_batch(const std::string& body) const;

  std::unique_ptr<FileStore> store_;
  BatchHost host_;
  std::unique_ptr<BatchRunner> runner_;
};

}  // namespace lathe
