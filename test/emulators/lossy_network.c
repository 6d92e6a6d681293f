// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// A network that loses and swaps UDP datagrams, as a library to be preloaded by who sends them.
//
// LOSSY_NETWORK names a file of two bytes, which may change at any time: how many of a hundred
// datagrams are lost, and how many of the others are sent only after the next one.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

enum { LOSS, SWAP, GREATEST = 65536 };

typedef ssize_t (*send_message)(int, const struct msghdr *, int);

static send_message really;
static volatile const unsigned char *shares;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static __thread unsigned int seed;
static __thread struct {
  int socket, flags;
  size_t size;  // 0: nothing is kept
  struct sockaddr_storage to;
  socklen_t to_size;
  char data[GREATEST];
} kept;

static void begin(void)
{
  really = (send_message)dlsym(RTLD_NEXT, "sendmsg");
  const char * path = getenv("LOSSY_NETWORK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void * found = file < 0 ? MAP_FAILED : mmap(NULL, 2, PROT_READ, MAP_SHARED, file, 0);
  shares = found == MAP_FAILED ? NULL : found;
}

static int happens(int which)
{
  if (!seed) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    seed = (unsigned int)(now.tv_nsec ^ (size_t)&seed) | 1;
  }
  return shares[which] && rand_r(&seed) % 100 < shares[which];
}

static ssize_t size_of(const struct msghdr * message)
{
  size_t size = 0;
  for (size_t i = 0; i < message->msg_iovlen; i++) {
    size += message->msg_iov[i].iov_len;
  }
  return (ssize_t)size;
}

static int keep(int socket, const struct msghdr * message, int flags)
{
  size_t size = (size_t)size_of(message);
  if (kept.size || !size || size > GREATEST || message->msg_namelen > sizeof kept.to) {
    return 0;
  }
  for (size_t i = 0, at = 0; i < message->msg_iovlen; at += message->msg_iov[i++].iov_len) {
    memcpy(kept.data + at, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
  }
  memcpy(&kept.to, message->msg_name, message->msg_namelen);
  kept.to_size = message->msg_namelen;
  kept.socket = socket, kept.flags = flags, kept.size = size;
  return 1;
}

ssize_t sendmsg(int socket, const struct msghdr * message, int flags)
{
  pthread_once(&once, begin);
  const struct sockaddr * to = message->msg_name;
  if (!shares || !to || to->sa_family != AF_INET) {
    return really(socket, message, flags);
  }
  if (happens(LOSS) || (happens(SWAP) && keep(socket, message, flags))) {
    return size_of(message);
  }
  ssize_t sent = really(socket, message, flags);
  if (kept.size) {
    struct iovec part = {kept.data, kept.size};
    struct msghdr late = {
      .msg_name = &kept.to, .msg_namelen = kept.to_size, .msg_iov = &part, .msg_iovlen = 1};
    kept.size = 0;
    really(kept.socket, &late, kept.flags);
  }
  return sent;
}

ssize_t sendto(
  int socket, const void * data, size_t size, int flags, const struct sockaddr * to,
  socklen_t to_size)
{
  struct iovec part = {(void *)data, size};
  struct msghdr message = {
    .msg_name = (void *)to, .msg_namelen = to_size, .msg_iov = &part, .msg_iovlen = 1};
  return sendmsg(socket, &message, flags);
}
