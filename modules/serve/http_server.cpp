// See http_server.h. libmicrohttpd runs in its external mode: MHD_run() does what is due on the sockets of its epoll
// descriptor, and a connection whose answer is not there yet is suspended.
#include "serve/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>

#include "tensor/errors.h"

static_assert(MHD_VERSION >= 0x00097300, "the server needs libmicrohttpd 0.9.73 or later");

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kTick = std::chrono::milliseconds(50);
constexpr auto kSilence = std::chrono::seconds(1);

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

// Sockets are file descriptors, of which the usual soft limit allows fewer than connections.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int listening_socket(const std::string& host, int port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  const int problem = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  check(problem == 0, "serve", "--host {}: {}", host, problem == 0 ? "" : gai_strerror(problem));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  const int descriptor =
      socket(found->ai_family, found->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, found->ai_protocol);
  const int on = 1;
  if (descriptor >= 0) setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (descriptor < 0 || bind(descriptor, found->ai_addr, found->ai_addrlen) != 0 || listen(descriptor, 1024) != 0) {
    const std::string reason = std::strerror(errno);
    if (descriptor >= 0) close(descriptor);
    throw Error(fmt::format("serve: cannot listen on {} port {}: {}", host, port, reason),
                "another --port, or 0 for any that is free");
  }
  return descriptor;
}

}  // namespace

std::string HttpRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

struct Exchange::Connection {
  HttpServer::Loop* loop = nullptr;
  MHD_Connection* handle = nullptr;
  int socket = -1;
  bool dispatched = false, suspended = false;
  size_t body_bytes = 0;  // that count against the limit of all bodies
  Clock::time_point begun = Clock::now();
};

struct HttpServer::Loop {
  HttpLimits limits;
  Handler handler;
  Gate gate;
  std::function<void()> tick;
  int listening = -1, epoll = -1, wakeup = -1, bound_port = 0;
  MHD_Daemon* daemon = nullptr;
  std::atomic<bool> stopping = false;
  std::mutex mutex;  // of `posted`
  std::deque<std::function<void()>> posted;
  std::map<MHD_Connection*, std::shared_ptr<Exchange>> exchanges;
  size_t body_bytes = 0;
  struct Lingering {
    int socket;
    Clock::time_point until;
  };
  std::list<Lingering> lingering;  // refused before their bodies were read

  static MHD_Result on_request(void* self, MHD_Connection* handle, const char* url, const char* method, const char*,
                               const char* data, size_t* size, void** context);
  static void on_completed(void* self, MHD_Connection* handle, void** context, MHD_RequestTerminationCode);
  static ssize_t read_stream(void* context, uint64_t, char* buffer, size_t most);

  MHD_Result begin(MHD_Connection* handle, const char* url, const char* method, void** context);
  MHD_Result take_body(Exchange& exchange, std::string_view piece);
  MHD_Result dispatch(const std::shared_ptr<Exchange>& exchange);
  static MHD_Result answer(Exchange& exchange);
  static void suspend(Exchange& exchange);
  void refuse_unread(Exchange& exchange);
  void close_all();
  void run_posted();
  void each_tick();
  void drain_lingering();
  int timeout() const;
};

// ---- exchanges ----

void Exchange::respond(int status, std::string body, HttpHeaders headers) {
  if (answered() || gone_) return;
  status_ = status;
  headers_ = std::move(headers);
  output_ = std::move(body);
  ended();
}

Exchange::~Exchange() {
  if (file_ >= 0) close(file_);
}

void Exchange::respond_file(const std::string& path, const std::string& content_type) {
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(file_ >= 0, "serve", "cannot read {}: {}", path, std::strerror(errno));
  respond(MHD_HTTP_OK, "", {{"Content-Type", content_type}});
}

void Exchange::ended() {
  ended_ = true;
  on_leave_ = {};
  wake();
  if (const auto f = std::exchange(on_end_, {})) f();
}

void Exchange::begin_stream(HttpHeaders headers) {
  if (answered() || gone_) return;
  status_ = MHD_HTTP_OK;
  streams_ = true;
  headers_ = std::move(headers);
  last_write_ = Clock::now();
  wake();
}

void Exchange::write(std::string_view piece) {
  if (over()) return;
  if (written_ > output_.size() / 2) output_.erase(0, std::exchange(written_, 0));
  output_ += piece;
  last_write_ = Clock::now();
  wake();
}

void Exchange::end() {
  if (!over()) ended();
}

std::string Exchange::take_body() {
  if (connection_) connection_->loop->body_bytes -= std::exchange(connection_->body_bytes, 0);
  return std::exchange(request.body, {});
}

void Exchange::wake() {
  if (!connection_ || !connection_->suspended) return;
  connection_->suspended = false;
  MHD_resume_connection(connection_->handle);
}

void Exchange::leave() {
  if (gone_) return;
  gone_ = true;
  if (const auto f = std::exchange(on_leave_, {})) f();
}

// ---- what libmicrohttpd calls ----

MHD_Result HttpServer::Loop::on_request(void* self, MHD_Connection* handle, const char* url, const char* method,
                                        const char*, const char* data, size_t* size, void** context) try {
  Loop& loop = *static_cast<Loop*>(self);
  if (*context == nullptr) return loop.begin(handle, url, method, context);
  const auto exchange = loop.exchanges.at(handle);
  if (*size > 0) {
    const std::string_view piece(data, *size);
    *size = 0;
    return loop.take_body(*exchange, piece);
  }
  return loop.dispatch(exchange);
} catch (const std::exception& e) {
  fmt::print(stderr, "lathe: warning: a connection was closed: {}\n", e.what());
  return MHD_NO;
}

MHD_Result HttpServer::Loop::begin(MHD_Connection* handle, const char* url, const char* method, void** context) {
  const auto exchange = std::make_shared<Exchange>();
  exchange->request.method = method;
  exchange->request.path = url;
  constexpr auto put = [](void* to, MHD_ValueKind, const char* name, const char* value) {
    (*static_cast<std::map<std::string, std::string>*>(to))[lower_case(name)] = value ? value : "";
    return MHD_YES;
  };
  MHD_get_connection_values(handle, MHD_HEADER_KIND, put, &exchange->request.headers);
  MHD_get_connection_values(handle, MHD_GET_ARGUMENT_KIND, put, &exchange->request.query);
  exchange->connection_ = std::make_shared<Exchange::Connection>();
  Exchange::Connection& c = *exchange->connection_;
  c.loop = this;
  c.handle = handle;
  c.socket = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
  const int on = 1;
  setsockopt(c.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  exchanges[handle] = exchange;
  *context = exchange.get();

  if (gate) gate(*exchange);
  const std::string length = exchange->request.header("content-length");
  if (!exchange->answered()) return MHD_YES;
  const bool has_body = !exchange->request.header("transfer-encoding").empty() || (!length.empty() && length != "0");
  if (has_body) refuse_unread(*exchange);
  return answer(*exchange);
}

// A socket that is closed with unread bytes resets the connection, and the client may never see its answer: a copy of
// the descriptor is read, to nowhere, until the client has had time to look.
void HttpServer::Loop::refuse_unread(Exchange& exchange) {
  constexpr auto kLinger = std::chrono::seconds(2);
  constexpr size_t kMost = 256;
  exchange.headers_.emplace_back(MHD_HTTP_HEADER_CONNECTION, "close");
  const int copy = lingering.size() < kMost ? dup(exchange.connection_->socket) : -1;
  if (copy >= 0) lingering.push_back({copy, Clock::now() + kLinger});
}

MHD_Result HttpServer::Loop::take_body(Exchange& exchange, std::string_view piece) {
  Exchange::Connection& c = *exchange.connection_;
  // Only a body that did not say its length gets here longer than allowed.
  exchange.request.too_long |= c.body_bytes + piece.size() > limits.body;
  if (exchange.request.too_long) {
    exchange.take_body();
    return MHD_YES;
  }
  if (body_bytes + piece.size() > limits.bodies) return MHD_NO;
  exchange.request.body += piece;
  c.body_bytes += piece.size();
  body_bytes += piece.size();
  return MHD_YES;
}

MHD_Result HttpServer::Loop::dispatch(const std::shared_ptr<Exchange>& exchange) {
  Exchange::Connection& c = *exchange->connection_;
  if (!c.dispatched) {
    if (stopping) return MHD_NO;  // it would be suspended, and none may be when the daemon ends
    c.dispatched = true;
    epoll_event event{};
    event.events = EPOLLRDHUP | EPOLLET;
    event.data.ptr = c.handle;
    epoll_ctl(epoll, EPOLL_CTL_ADD, c.socket, &event);
    handler(exchange);
  }
  if (exchange->gone_) return MHD_NO;
  if (exchange->answered()) return answer(*exchange);
  suspend(*exchange);
  return MHD_YES;
}

void HttpServer::Loop::suspend(Exchange& exchange) {
  exchange.connection_->suspended = true;
  MHD_suspend_connection(exchange.connection_->handle);
}

MHD_Result HttpServer::Loop::answer(Exchange& exchange) {
  constexpr size_t kBlock = size_t{16} << 10;
  MHD_Response* response = nullptr;
  struct stat facts {};
  if (exchange.file_ >= 0 && fstat(exchange.file_, &facts) == 0) {
    response = MHD_create_response_from_fd64(static_cast<uint64_t>(facts.st_size), std::exchange(exchange.file_, -1));
  } else if (exchange.streams_) {
    response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, kBlock, &read_stream, &exchange, nullptr);
  } else {
    response = MHD_create_response_from_buffer(exchange.output_.size(), exchange.output_.data(),
                                               MHD_RESPMEM_PERSISTENT);  // the exchange outlives it
  }
  if (response == nullptr) return MHD_NO;
  HttpHeaders headers = exchange.headers_;
  headers.insert(headers.end(), exchange.common_headers.begin(), exchange.common_headers.end());
  if (std::none_of(headers.begin(), headers.end(), [](const auto& h) { return h.first == "Content-Type"; }))
    headers.emplace_back("Content-Type", exchange.streams_ ? "text/event-stream; charset=utf-8" : "application/json");
  if (exchange.streams_) headers.emplace_back("Cache-Control", "no-cache");
  for (const auto& [name, value] : headers) MHD_add_response_header(response, name.c_str(), value.c_str());
  const MHD_Result result =
      MHD_queue_response(exchange.connection_->handle, static_cast<unsigned>(exchange.status_), response);
  MHD_destroy_response(response);
  return result;
}

ssize_t HttpServer::Loop::read_stream(void* context, uint64_t, char* buffer, size_t most) {
  Exchange& exchange = *static_cast<Exchange*>(context);
  const size_t count = std::min(most, exchange.output_.size() - exchange.written_);
  if (count > 0) {
    exchange.output_.copy(buffer, count, exchange.written_);
    exchange.written_ += count;
    return static_cast<ssize_t>(count);
  }
  if (exchange.gone_) return MHD_CONTENT_READER_END_WITH_ERROR;
  if (exchange.ended_) return MHD_CONTENT_READER_END_OF_STREAM;
  suspend(exchange);
  return 0;
}

void HttpServer::Loop::on_completed(void* self, MHD_Connection* handle, void** context, MHD_RequestTerminationCode) {
  Loop& loop = *static_cast<Loop*>(self);
  *context = nullptr;
  const auto found = loop.exchanges.find(handle);
  if (found == loop.exchanges.end()) return;
  const std::shared_ptr<Exchange> exchange = found->second;
  loop.exchanges.erase(found);
  if (exchange->connection_->dispatched) epoll_ctl(loop.epoll, EPOLL_CTL_DEL, exchange->connection_->socket, nullptr);
  loop.body_bytes -= exchange->connection_->body_bytes;
  if (!exchange->ended_) exchange->leave();
  exchange->connection_.reset();
}

// ---- the loop ----

HttpServer::HttpServer(const std::string& host, int port, const HttpLimits& limits) : loop_(std::make_unique<Loop>()) {
  Loop& l = *loop_;
  l.limits = limits;
  raise_descriptor_limit();
  l.epoll = epoll_create1(EPOLL_CLOEXEC);
  l.wakeup = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (l.epoll < 0 || l.wakeup < 0)
    throw Error(fmt::format("serve: no event loop: {}", std::strerror(errno)),
                "raise the limit of open files: ulimit -n");
  l.listening = listening_socket(host, port);
  l.daemon =
      MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, nullptr, nullptr, &Loop::on_request, &l,
                       MHD_OPTION_LISTEN_SOCKET, l.listening, MHD_OPTION_NOTIFY_COMPLETED, &Loop::on_completed, &l,
                       MHD_OPTION_CONNECTION_LIMIT, limits.connections, MHD_OPTION_CONNECTION_TIMEOUT,
                       limits.idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT, size_t{32} << 10, MHD_OPTION_END);
  if (l.daemon == nullptr) {
    close(l.listening);
    throw Error(fmt::format("serve: libmicrohttpd {} does not start on {} port {}", MHD_get_version(), host, port),
                "raise the limit of open files: ulimit -n");
  }
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  getsockname(l.listening, reinterpret_cast<sockaddr*>(&address), &length);
  l.bound_port = ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                                     : reinterpret_cast<const sockaddr_in&>(address).sin_port);
  epoll_event event{};
  event.events = EPOLLIN;
  for (const int descriptor : {l.wakeup, MHD_get_daemon_info(l.daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd})
    epoll_ctl(l.epoll, EPOLL_CTL_ADD, descriptor, &event);
}

HttpServer::~HttpServer() {
  Loop& l = *loop_;
  l.close_all();
  for (const Loop::Lingering& one : l.lingering) close(one.socket);
  close(l.epoll);
  close(l.wakeup);
}

void HttpServer::Loop::close_all() {
  if (daemon == nullptr) return;
  const auto open = exchanges;
  for (const auto& [handle, exchange] : open) {  // none may be suspended when the daemon ends
    exchange->leave();
    exchange->wake();
  }
  MHD_run(daemon);
  MHD_stop_daemon(std::exchange(daemon, nullptr));
}

int HttpServer::port() const { return loop_->bound_port; }
void HttpServer::on_tick(std::function<void()> f) { loop_->tick = std::move(f); }
size_t HttpServer::open_exchanges() const { return loop_->exchanges.size(); }
size_t HttpServer::body_bytes() const { return loop_->body_bytes; }
void HttpServer::handle(Handler handler, Gate gate) {
  loop_->handler = std::move(handler);
  loop_->gate = std::move(gate);
}

void HttpServer::stop() {
  loop_->stopping = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(loop_->wakeup, &one, sizeof one);
}

void HttpServer::post(std::function<void()> f) {
  {
    const std::lock_guard lock(loop_->mutex);
    loop_->posted.push_back(std::move(f));
  }
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(loop_->wakeup, &one, sizeof one);
}

void HttpServer::Loop::run_posted() {
  std::deque<std::function<void()>> taken;
  {
    const std::lock_guard lock(mutex);
    taken.swap(posted);
  }
  for (const auto& f : taken) f();
}

// Until something is due: MHD wants to run again, or the next tick.
int HttpServer::Loop::timeout() const {
  MHD_UNSIGNED_LONG_LONG due = 0;
  const auto tick_ms = static_cast<int>(kTick.count());
  return MHD_get_timeout(daemon, &due) == MHD_YES && due < static_cast<MHD_UNSIGNED_LONG_LONG>(tick_ms)
             ? static_cast<int>(due)
             : tick_ms;
}

void HttpServer::Loop::each_tick() {
  const auto now = Clock::now();
  for (const auto& [handle, exchange] : exchanges) {
    if (exchange->streams_ && !exchange->over() && now - exchange->last_write_ >= kSilence) exchange->write(":\n\n");
    const Exchange::Connection& c = *exchange->connection_;
    // A byte a second would keep a request, and its room, for ever.
    if (!c.dispatched && !exchange->answered() && now - c.begun > std::chrono::seconds(limits.request_seconds))
      shutdown(c.socket, SHUT_RDWR);
  }
  drain_lingering();
  if (tick) tick();
}

void HttpServer::Loop::drain_lingering() {
  constexpr int kReads = 64;  // of a socket and tick
  static char nowhere[64 << 10];
  const auto now = Clock::now();
  for (auto one = lingering.begin(); one != lingering.end();) {
    ssize_t count = 0;
    for (int i = 0; i < kReads; ++i)
      if ((count = recv(one->socket, nowhere, sizeof nowhere, MSG_DONTWAIT)) <= 0) break;
    if (now > one->until || count == 0 || (count < 0 && errno != EAGAIN)) {
      close(one->socket);
      one = lingering.erase(one);
    } else {
      ++one;
    }
  }
}

void HttpServer::run() {
  Loop& l = *loop_;
  struct Closing {  // behind an exception, too: whoever hears of a client that leaves is still there
    Loop& loop;
    ~Closing() { loop.close_all(); }
  } const closing{l};
  auto next_tick = Clock::now() + kTick;
  while (!l.stopping) {
    epoll_event events[64];
    const int count = epoll_wait(l.epoll, events, std::size(events), l.timeout());
    for (int i = 0; i < count; ++i) {
      if (events[i].data.ptr == nullptr) continue;
      const auto found = l.exchanges.find(static_cast<MHD_Connection*>(events[i].data.ptr));
      if (found == l.exchanges.end() || !found->second->connection_->dispatched) continue;
      const std::shared_ptr<Exchange> exchange = found->second;
      if (exchange->ended_) continue;
      exchange->leave();
      exchange->wake();
    }
    uint64_t posts = 0;
    [[maybe_unused]] const ssize_t read_bytes = ::read(l.wakeup, &posts, sizeof posts);
    l.run_posted();
    MHD_run(l.daemon);
    if (const auto now = Clock::now(); now >= next_tick) {
      l.each_tick();
      next_tick = now + kTick;
    }
  }
}

}  // namespace lathe
