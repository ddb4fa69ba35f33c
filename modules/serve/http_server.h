// HTTP/1.1 for many slow connections, on one thread.
//
// run() is an event loop over libmicrohttpd's epoll: it reads requests, hands whole ones to the handler, writes answers
// and runs what other threads post(). The handler and everything of an Exchange but post() belong to that thread, so
// what answers a request needs no lock. A handler that takes long (parsing, tokenising, generating) does so elsewhere
// and posts what comes of it.
//
// A client that leaves is noticed while nothing is written: the loop watches every socket that owes an answer. One that
// half-closes its connection has left too.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method, path;                    // "POST", "/v1/models" without its query
  std::map<std::string, std::string> headers;  // names in lower case
  std::map<std::string, std::string> query;    // ?limit=20&after=x
  std::string body;
  bool too_long = false;  // a body that did not say its length was longer than is read: it is not here

  std::string header(const std::string& name) const;  // empty where there is none
};

struct HttpLimits {
  size_t body = size_t{16} << 20;     // bytes of one body
  size_t bodies = size_t{256} << 20;  // of all that are being received or worked on
  unsigned connections = 4096;
  unsigned idle_seconds = 120;     // without a byte either way while a request is read or an answer written
  unsigned request_seconds = 120;  // from a request's first byte to its last
};

// One request and its answer: respond() once, or begin_stream(), write() and end().
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange() = default;
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  HttpRequest request;

  // The content type is JSON where no header says otherwise.
  void respond(int status, std::string body, HttpHeaders headers = {});
  // Server-sent events: status and headers are sent at once, and after each second without a write a comment line, so
  // that nothing between here and the client takes the silence for a dead connection.
  void begin_stream(HttpHeaders headers = {});
  void write(std::string_view piece);
  void end();
  // The bytes of a file, which are read as the client takes them. Throws Error where it cannot be opened.
  void respond_file(const std::string& path, const std::string& content_type);

  // The request's body, which no longer counts against the limit of all bodies.
  std::string take_body();
  bool answered() const { return status_ != 0; }  // or begun to
  bool streams() const { return streams_; }
  bool over() const { return ended_ || gone_; }
  int status() const { return status_; }
  const std::string& output() const { return output_; }  // of a connection that reads none: all of it
  // f is called once, where the client leaves before its answer has ended.
  void on_leave(std::function<void()> f) { on_leave_ = std::move(f); }
  // f is called once, when the answer has ended: for a request that no client has sent.
  void on_end(std::function<void()> f) { on_end_ = std::move(f); }
  // Headers that every answer gets besides its own.
  HttpHeaders common_headers;

 private:
  friend class HttpServer;
  void wake();
  void leave();
  void ended();

  struct Connection;  // of libmicrohttpd
  std::shared_ptr<Connection> connection_;
  int status_ = 0;
  HttpHeaders headers_;
  std::string output_;  // that was not handed to the connection yet
  size_t written_ = 0;  // of output_
  bool streams_ = false, ended_ = false, gone_ = false;
  std::chrono::steady_clock::time_point last_write_{};
  int file_ = -1;  // that is answered with
  std::function<void()> on_leave_, on_end_;
};

class HttpServer {
 public:
  using Handler = std::function<void(const std::shared_ptr<Exchange>&)>;
  // Asked with the headers alone, before the body is read; what it responds refuses the request.
  using Gate = std::function<void(Exchange&)>;

  // Binds and listens; port 0 takes a free one. Throws Error naming the address.
  HttpServer(const std::string& host, int port, const HttpLimits& limits);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  void handle(Handler handler, Gate gate = {});
  // f is called on the loop about every 50 ms.
  void on_tick(std::function<void()> f);
  // Serves until stop(), which a signal handler may call, too; then all connections are closed.
  void run();
  void stop();
  // From any thread: f runs on the loop, in the order of the calls. What is posted after run() has returned never runs.
  void post(std::function<void()> f);
  // Requests whose answers have not ended, and the bytes of bodies that were received and not taken.
  size_t open_exchanges() const;
  size_t body_bytes() const;

 private:
  friend class Exchange;
  struct Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace lathe
