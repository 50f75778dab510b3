// The clients and the origins of a load test in one epoll thread, so that both cost less than any proxy between them.
//
// It answers every request on the origins' ports with BODY bytes, and sends GET /BODY through the proxy on CONNECTIONS keep-alive
// connections: the next one when the whole answer is in (closed loop), or with RATE > 0 so many a second however long the answers take
// (open loop). In the open loop a request's time runs from the moment at which it was due, sent or not: a proxy that stalls is not
// forgiven what could not be asked meanwhile.
//
// With a file of REQUESTS (heads, one behind the other) it plays no origins, sends these in turn to a server, and expects answers of
// STATUS, whatever their length; what it need not look at of their bodies it does not copy out of the system.
//
// usage: lean_load PROXY_PORT ORIGIN_PORT[,ORIGIN_PORT...] CONNECTIONS SECONDS BODY [WARM_SECONDS [RATE]]
//        lean_load SERVER_PORT - CONNECTIONS SECONDS 0 WARM_SECONDS RATE REQUESTS STATUS
//
// Writes START and END to stderr where the measured time begins and ends, so that the proxy's CPU time can be read there; then it keeps
// its connections until its stdin ends, so that the proxy's memory can be read, too. To stdout, on one line: requests, requests/s,
// p50, p99, p99.9 and the longest latency in us, errors, the connections and requests that the origins saw, and the bytes of an answer.
// An error is a refused connection, one that ended or broke, an answer other than 200 (or STATUS) or of another length, and a request
// that has no answer 3 s after the end. Answers that come after the end count in the latencies, not in the requests; and in the open loop, requests
// that were due and could not be sent by the end count there with the time that they had waited.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 200000
// Latencies are counted per microsecond up to here.
#define LONGEST 2000000
// Small answers that are owed together go out in one send, up to so many.
#define BATCH 64
// How long after the end answers are awaited, us.
#define GRACE 3e6

enum kind { FREE, LISTENER, CLIENT, ORIGIN };

static struct connection {
  enum kind kind;
  // A client: a request is out. An origin: answers owed.
  int busy;
  // A client's answer.
  int have_head;
  long want, got;
  char tail[5];  // the last bytes of one without a length
  double asked;  // when the request was sent, or was due
  // An origin's input: how much of CRLFCRLF has been seen; its output: bytes sent of the answers owed.
  int matched;
  long sent;
} connections[MAX_FD];

static char buffer[1 << 20];
static char *reply;
static long reply_len, batch;
static struct request {
  char *bytes;
  int length;
} *requests;
static long request_count, request_next;
static char *status = "200";
static int discard;  // bytes that need not be looked at

static unsigned histogram[LONGEST];
static long done, errors, origin_connections, origin_requests, received;
static int counting, ended;
static int outstanding;  // requests

static int ep, proxy_port;
static double now;         // us
static double rate, due;   // of the open loop: requests/s, and when the next one is due
static int idle[MAX_FD], idle_count;

static double clock_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void watch(int fd, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
}

static void count(double us) { histogram[us < 0 ? 0 : us < LONGEST ? (long)us : LONGEST - 1]++; }

// ---- clients

static int dial(void) {
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  struct sockaddr_in address = loopback(proxy_port);
  if (connect(fd, (void *)&address, sizeof address)) {
    close(fd);
    errors++;
    return -1;
  }
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  connections[fd] = (struct connection){.kind = CLIENT};
  watch(fd, EPOLLIN | EPOLLET);
  return fd;
}

static void ask(int fd, double asked) {
  struct connection *c = &connections[fd];
  c->busy = 1;
  outstanding++;
  c->asked = asked;
  c->want = c->got = c->have_head = 0;
  struct request *request = &requests[request_next];
  request_next = request_next + 1 < request_count ? request_next + 1 : 0;
  if (send(fd, request->bytes, request->length, MSG_NOSIGNAL) != request->length) errors++;
}

static void next_request(int fd) {
  if (ended) return;
  if (rate > 0) idle[idle_count++] = fd;
  else ask(fd, now);
}

static void failed(int fd) {
  close(fd);
  outstanding -= connections[fd].busy;
  connections[fd].kind = FREE;
  errors++;
  // In the open loop an idle connection may fail, too.
  for (int i = 0; i < idle_count; i++)
    if (idle[i] == fd) idle[i--] = idle[--idle_count];
  int again = ended ? -1 : dial();
  if (again >= 0) next_request(again);
}

// The first bytes of an answer are in the buffer: judges them, and finds out how many there will be. 0 if the answer is wrong.
static int take_head(struct connection *c, ssize_t n) {
  buffer[n] = 0;
  // A head that comes in pieces would be an error; none does that here.
  char *end = memmem(buffer, n, "\r\n\r\n", 4);
  if (!end || memcmp(buffer, "HTTP/1.1 ", 9) || memcmp(buffer + 9, status, 3)) return 0;
  char *length = strcasestr(buffer, "content-length:");
  // Without a length it is chunked, and ends with the last chunk: good enough for small bodies.
  c->want = length && length < end ? end + 4 - buffer + atol(length + 15) : -1;
  if (!strcmp(status, "304")) c->want = end + 4 - buffer;
  c->have_head = 1;
  return 1;
}

// Does a chunked answer end with the n bytes in the buffer?
static int last_chunk(struct connection *c, ssize_t n) {
  int kept = n < 5 ? 5 - n : 0;
  memmove(c->tail, c->tail + 5 - kept, kept);
  memcpy(c->tail + kept, buffer + n - (5 - kept), 5 - kept);
  return !memcmp(c->tail, "0\r\n\r\n", 5);
}

static void on_client(int fd) {
  struct connection *c = &connections[fd];
  for (;;) {
    int flags = discard && c->have_head && c->want >= 0 ? MSG_DONTWAIT | MSG_TRUNC : MSG_DONTWAIT;
    ssize_t room = sizeof buffer - 1, n = recv(fd, buffer, room, flags);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0 || !c->busy || (!c->have_head && !take_head(c, n))) return failed(fd);
    c->got += n;
    if (c->want < 0 ? last_chunk(c, n) : c->got >= c->want) {
      if (c->want >= 0 && c->got > c->want) return failed(fd);
      if (counting) count(now - c->asked);
      done += counting && !ended;
      received += counting && !ended ? c->got : 0;
      c->busy = 0;
      outstanding--;
      next_request(fd);
    }
    if (n < room) return;
  }
}

// ---- origins

// Sends the answers that are owed, as far as the socket takes them. 0 if the connection broke.
static int push(int fd) {
  struct connection *c = &connections[fd];
  while (c->busy) {
    long together = c->busy < batch ? c->busy : batch;
    ssize_t n = send(fd, reply + c->sent, together * reply_len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN;
    c->sent += n;
    c->busy -= c->sent / reply_len;
    c->sent %= reply_len;
  }
  return 1;
}

// Requests have no bodies here, so each ends in CRLFCRLF. Several may come in one read, and one may be cut.
static int count_requests(struct connection *c, char *bytes, ssize_t n) {
  int requests = 0, matched = c->matched;
  for (char *p = bytes, *end = bytes + n; p < end;) {
    if (matched == 0) {
      p = memchr(p, '\r', end - p);
      if (!p) break;
      matched = 1;
      p++;
      continue;
    }
    char byte = *p++;
    if (byte == (matched == 2 ? '\r' : '\n')) matched++;
    else matched = byte == '\r';
    if (matched == 4) {
      requests++;
      matched = 0;
    }
  }
  c->matched = matched;
  return requests;
}

static void on_origin(int fd) {
  struct connection *c = &connections[fd];
  int open = push(fd);
  while (open && !c->busy) {
    ssize_t n = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    open = n > 0;
    if (!open) break;
    c->busy = count_requests(c, buffer, n);
    origin_requests += c->busy;
    open = push(fd);
    if (n < (ssize_t)sizeof buffer) break;
  }
  if (!open) {
    close(fd);
    c->kind = FREE;
  }
}

static void accept_all(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[fd] = (struct connection){.kind = ORIGIN};
    origin_connections++;
    watch(fd, EPOLLIN | EPOLLOUT | EPOLLET);
  }
}

static int listen_on(int port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = loopback(port);
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("lean_load: bind"), 0;
  connections[listener].kind = LISTENER;
  watch(listener, EPOLLIN);
  return 1;
}

// ---- the whole

static void prepare(long body) {
  char reply_head[256];
  int head_len = sprintf(reply_head, "HTTP/1.1 200 OK\r\nServer: lean\r\nContent-Type: text/plain\r\nContent-Length: %ld\r\nETag: \"abc\"\r\n\r\n", body);
  reply_len = head_len + body;
  batch = reply_len > 8192 ? 1 : BATCH;
  reply = malloc(batch * reply_len);
  for (int i = 0; i < batch; i++) {
    memcpy(reply + i * reply_len, reply_head, head_len);
    memset(reply + i * reply_len + head_len, 'x', body);
  }
  static char head[512];
  static struct request request = {.bytes = head};
  request.length = sprintf(head, "GET /%ld HTTP/1.1\r\nHost: localhost\r\nUser-Agent: lean\r\nAccept: */*\r\n\r\n", body);
  requests = &request;
  request_count = 1;
}

static int read_requests(char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) return perror(path), 0;
  fseek(file, 0, SEEK_END);
  long length = ftell(file);
  rewind(file);
  char *bytes = malloc(length + 1), *end = bytes + fread(bytes, 1, length, file);
  fclose(file);
  requests = malloc((length / 4 + 1) * sizeof *requests);
  request_count = 0;
  for (char *next; (next = memmem(bytes, end - bytes, "\r\n\r\n", 4)); bytes = next + 4)
    requests[request_count++] = (struct request){.bytes = bytes, .length = next + 4 - bytes};
  if (!request_count) fprintf(stderr, "%s: no requests\n", path);
  return request_count > 0;
}

static void mark(const char *word) {
  fprintf(stderr, "%s\n", word);
  fflush(stderr);
}

static void report(double seconds) {
  double wanted[] = {.5, .99, .999};
  long value[3] = {0}, longest = 0, seen = 0, all = 0;
  for (long us = 0; us < LONGEST; us++) all += histogram[us];
  for (long us = 0, next = 0; us < LONGEST; us++) {
    if (!histogram[us]) continue;
    seen += histogram[us];
    longest = us;
    while (next < 3 && seen >= all * wanted[next]) value[next++] = us;
  }
  printf("%ld %.0f %ld %ld %ld %ld %ld %ld %ld %ld\n", done, done / seconds, value[0], value[1], value[2], longest, errors,
         origin_connections, origin_requests, received / (done ? done : 1));
  fflush(stdout);
}

// One batch of events.
static void serve(int wait_ms) {
  struct epoll_event events[1024];
  int n = epoll_wait(ep, events, 1024, wait_ms);
  now = clock_us();
  for (int i = 0; i < n; i++) {
    int fd = events[i].data.fd;
    if (connections[fd].kind == CLIENT) on_client(fd);
    else if (connections[fd].kind == ORIGIN) on_origin(fd);
    else if (connections[fd].kind == LISTENER) accept_all(fd);
  }
}

int main(int argc, char **argv) {
  if (argc < 6) return fprintf(stderr, "usage: lean_load PROXY_PORT ORIGIN_PORT[,...] CONNECTIONS SECONDS BODY [WARM_SECONDS [RATE]]\n"), 2;
  proxy_port = atoi(argv[1]);
  int wanted = atoi(argv[3]), dialled = 0;
  double seconds = atof(argv[4]), warm = argc > 6 ? atof(argv[6]) : 0.5;
  rate = argc > 7 ? atof(argv[7]) : 0;
  signal(SIGPIPE, SIG_IGN);
  ep = epoll_create1(0);
  prepare(atol(argv[5]));
  if (argc > 9) {
    if (!read_requests(argv[8])) return 1;
    status = argv[9];
    discard = 1;
  }
  for (char *port = strtok(argv[2], ",-"); port; port = strtok(0, ",-"))
    if (!listen_on(atoi(port))) return 1;
  now = due = clock_us();
  double start = now + warm * 1e6, end = start + seconds * 1e6;
  while ((now = clock_us()) < end) {
    for (int i = 0; i < 16 && dialled < wanted; i++, dialled++) {
      int fd = dial();
      if (fd >= 0) next_request(fd);
    }
    if (!counting && now >= start) {
      counting = 1;
      due = now;
      mark("START");
    }
    for (; rate > 0 && due <= now && idle_count; due += 1e6 / rate) ask(idle[--idle_count], due);
    // The open loop does not sleep: a timer would send late.
    serve(rate > 0 || dialled < wanted ? 0 : 100);
  }
  ended = 1;
  mark("END");
  for (; rate > 0 && due < end; due += 1e6 / rate) count(end - due);
  while (outstanding && now < end + GRACE) serve(100);
  errors += outstanding;
  report(seconds);
  while (getchar() != EOF) {
  }
}
