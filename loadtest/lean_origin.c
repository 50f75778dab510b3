// A lean HTTP/1.1 origin for measurements: one epoll thread, canned answers. It trusts what it is sent.
//
// GET /N is answered with N bytes (up to 1 GiB), anything else with 1 KiB. Request bodies with a Content-Length are read and forgotten.
// A request with "Connection: close" gets such an answer, and then the connection ends.
//
// usage: lean_origin PORT [PORT...]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FD 200000
#define PIECE (1 << 20)
// Answers up to this size go out in one write with their head.
#define SMALL 4096

struct connection {
  char in[8192];
  int in_len;
  long body_left;  // of the request
  char head[256];
  int head_len, head_sent;
  long out_left;  // of the answer's body
  int closes;
};

enum { GONE = -1, STAYS = 0 };

static struct connection *connections[MAX_FD];
static char *zeros;
static int ep;

static int drop(int fd) {
  close(fd);
  free(connections[fd]);
  connections[fd] = 0;
  return GONE;
}

static int owes(struct connection *c) { return c->head_sent < c->head_len || c->out_left > 0; }

// Sends what is owed, as far as the socket takes it.
static int flush(int fd, struct connection *c) {
  while (owes(c)) {
    ssize_t n;
    int head = c->head_len - c->head_sent;
    if (head && c->out_left > 0 && c->out_left <= SMALL) {
      char whole[SMALL + sizeof c->head];
      memcpy(whole, c->head + c->head_sent, head);
      memcpy(whole + head, zeros, c->out_left);
      n = write(fd, whole, head + c->out_left);
    } else if (head) {
      n = send(fd, c->head + c->head_sent, head, c->out_left ? MSG_MORE : 0);
    } else {
      n = write(fd, zeros, c->out_left < PIECE ? c->out_left : PIECE);
    }
    if (n < 0) return errno == EAGAIN ? STAYS : drop(fd);
    int of_head = n < head ? n : head;
    c->head_sent += of_head;
    c->out_left -= n - of_head;
  }
  return c->closes && c->head_len ? drop(fd) : STAYS;
}

// Takes a request's head, which ends at `end`, from the input and makes its answer.
static void answer(struct connection *c, char *end) {
  long size = 1024;
  *end = 0;
  char *path = strchr(c->in, '/');
  if (path && path[1] >= '0' && path[1] <= '9') size = atol(path + 1);
  char *length = c->in[0] == 'P' ? strcasestr(c->in, "content-length:") : 0;
  c->body_left = length ? atol(length + 15) : 0;
  c->closes = strcasestr(c->in, "connection: close") != 0;
  int used = end + 4 - c->in;
  c->in_len -= used;
  long of_body = c->in_len < c->body_left ? c->in_len : c->body_left;
  c->body_left -= of_body;
  c->in_len -= of_body;
  if (c->in_len) memmove(c->in, c->in + used + of_body, c->in_len);
  c->head_len = snprintf(c->head, sizeof c->head,
                         "HTTP/1.1 200 OK\r\nServer: lean\r\nContent-Type: text/plain\r\nContent-Length: %ld\r\n"
                         "Cache-Control: max-age=60\r\nETag: \"%ld\"\r\n%s\r\n",
                         size, size, c->closes ? "Connection: close\r\n" : "");
  c->head_sent = 0;
  c->out_left = size;
}

static int on_event(int fd) {
  static char sink[1 << 18];
  struct connection *c = connections[fd];
  for (;;) {
    // The answer begins when the request is whole, and the next request is looked at when the answer is out.
    if (!c->body_left) {
      if (flush(fd, c) == GONE) return GONE;
      if (owes(c)) return STAYS;
      char *end = c->in_len ? memmem(c->in, c->in_len, "\r\n\r\n", 4) : 0;
      if (end) {
        answer(c, end);
        continue;
      }
    }
    char *into = c->body_left ? sink : c->in + c->in_len;
    ssize_t room = sizeof c->in - 1 - c->in_len;
    if (c->body_left) room = c->body_left < (long)sizeof sink ? c->body_left : (long)sizeof sink;
    ssize_t n = read(fd, into, room);
    if (n < 0 && errno == EAGAIN) return STAYS;
    if (n <= 0) return drop(fd);
    if (c->body_left) {
      c->body_left -= n;
      continue;
    }
    c->in_len += n;
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    // The common case: one whole request and nothing behind it. A short read means that there is no more for now.
    if (end && n < room && end + 4 == c->in + c->in_len) {
      answer(c, end);
      if (!c->body_left) return flush(fd, c);
    } else if (!end && n < room) {
      return STAYS;
    }
  }
}

static int listen_on(int port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
    perror("lean_origin: bind");
    exit(1);
  }
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event);
  return listener;
}

static void accept_all(int listener) {
  int client, one = 1;
  while ((client = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connections[client] = calloc(1, sizeof(struct connection));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, .data.fd = client};
    epoll_ctl(ep, EPOLL_CTL_ADD, client, &event);
  }
}

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: lean_origin PORT [PORT...]\n"), 2;
  zeros = malloc(PIECE);
  memset(zeros, 'x', PIECE);
  ep = epoll_create1(0);
  int first = listen_on(atoi(argv[1])), last = first;
  for (int i = 2; i < argc; i++) last = listen_on(atoi(argv[i]));
  struct epoll_event events[512];
  for (;;) {
    int n = epoll_wait(ep, events, 512, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd >= first && fd <= last) accept_all(fd);
      else if (connections[fd]) on_event(fd);
    }
  }
}
