// The floor: a byte relay that parses nothing, so what the kernel alone costs.
//
// One thread, one edge-triggered epoll, one connection to an origin per client. A short read ends the reading, and what was read is
// written at once. Origins take turns by connection.
//
// usage: floor LISTEN_PORT ORIGIN_PORT [ORIGIN_PORT...]
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FD 200000
#define BUFFER 65536

// Bytes that a descriptor could not take yet.
struct backlog {
  char *bytes;
  int offset, left;
};

static int peer[MAX_FD];
static struct backlog backlog[MAX_FD];
static int ep;

static void watch(int fd, int operation, unsigned more) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLRDHUP | more, .data.fd = fd};
  epoll_ctl(ep, operation, fd, &event);
}

static void forget(int fd) {
  close(fd);
  free(backlog[fd].bytes);
  backlog[fd] = (struct backlog){0};
  peer[fd] = 0;
}

static void drop(int fd) {
  int other = peer[fd];
  forget(fd);
  if (other) forget(other);
}

static void relay(int from) {
  static char buffer[BUFFER];
  int to = peer[from];
  if (backlog[to].left) return;
  for (;;) {
    ssize_t n = read(from, buffer, BUFFER);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return drop(from);
    for (ssize_t sent = 0; sent < n;) {
      ssize_t w = write(to, buffer + sent, n - sent);
      if (w >= 0) {
        sent += w;
        continue;
      }
      if (errno != EAGAIN) return drop(from);
      char *rest = malloc(n - sent);
      memcpy(rest, buffer + sent, n - sent);
      backlog[to] = (struct backlog){.bytes = rest, .left = n - sent};
      return watch(to, EPOLL_CTL_MOD, EPOLLOUT);
    }
    if (n < BUFFER) return;
  }
}

static void on_event(int fd) {
  struct backlog *owed = &backlog[fd];
  while (owed->left) {
    ssize_t w = write(fd, owed->bytes + owed->offset, owed->left);
    if (w < 0 && errno == EAGAIN) break;
    if (w < 0) return drop(fd);
    owed->offset += w;
    owed->left -= w;
    if (!owed->left) {
      free(owed->bytes);
      *owed = (struct backlog){0};
      watch(fd, EPOLL_CTL_MOD, 0);
      relay(peer[fd]);
      if (!peer[fd]) return;
    }
  }
  relay(fd);
}

static struct sockaddr_in loopback(int port) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void accept_all(int listener, int origins, char **origin) {
  static int next;
  int one = 1, client;
  while ((client = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(atoi(origin[next++ % origins]));
    if (connect(server, (void *)&address, sizeof address)) {
      close(server);
      close(client);
      continue;
    }
    fcntl(server, F_SETFL, O_NONBLOCK);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    peer[client] = server;
    peer[server] = client;
    watch(client, EPOLL_CTL_ADD, 0);
    watch(server, EPOLL_CTL_ADD, 0);
  }
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: floor LISTEN_PORT ORIGIN_PORT [ORIGIN_PORT...]\n"), 2;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = loopback(atoi(argv[1]));
  if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("floor: bind"), 1;
  ep = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[512];
  epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int n = epoll_wait(ep, events, 512, -1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) accept_all(listener, argc - 2, argv + 2);
      else if (peer[fd]) on_event(fd);
    }
  }
}
