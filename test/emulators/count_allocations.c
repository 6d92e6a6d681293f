// Copyright 2026 rl_nodes contributors
// SPDX-License-Identifier: Apache-2.0
//
// Preloaded into a policy server: counts what its control thread allocates.
//
// The file named by COUNT_FILE becomes three counters (uint64): what the thread itself allocated,
// what the middleware did in its name while taking or publishing a message, and what ONNX Runtime
// did within a call.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void * __libc_malloc(size_t);
extern void * __libc_calloc(size_t, size_t);
extern void * __libc_realloc(void *, size_t);
extern void * __libc_memalign(size_t, size_t);

enum {OWN, MIDDLEWARE, ONNXRUNTIME, COUNTERS};

static __thread int watched, in_middleware;
static uint64_t * counters;

static int called_by_onnxruntime(void)
{
  void * frames[64];
  int depth = backtrace(frames, 64);
  for (int i = 0; i < depth; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) && info.dli_fname && strstr(info.dli_fname, "onnxruntime")) {
      return 1;
    }
  }
  return 0;
}

static void count(void)
{
  if (watched && counters != NULL) {
    watched = 0;  // looking for the caller may allocate, too
    int who = in_middleware ? MIDDLEWARE : called_by_onnxruntime() ? ONNXRUNTIME : OWN;
    __atomic_add_fetch(&counters[who], 1, __ATOMIC_RELAXED);
    watched = 1;
  }
}

void * malloc(size_t size) {count(); return __libc_malloc(size);}
void * calloc(size_t number, size_t size) {count(); return __libc_calloc(number, size);}
void * realloc(void * old, size_t size) {count(); return __libc_realloc(old, size);}
void * aligned_alloc(size_t to, size_t size) {count(); return __libc_memalign(to, size);}
void * memalign(size_t to, size_t size) {count(); return __libc_memalign(to, size);}
int posix_memalign(void ** at, size_t to, size_t size)
{
  count();
  *at = __libc_memalign(to, size);
  return *at == NULL ? 12 : 0;
}

static void * next(const char * name) {return dlsym(RTLD_NEXT, name);}

int pthread_setname_np(pthread_t thread, const char * name)
{
  static int (* real)(pthread_t, const char *);
  if (real == NULL) {real = next("pthread_setname_np");}
  if (strcmp(name, "control") == 0) {
    const char * path = getenv("COUNT_FILE");
    int file = path == NULL ? -1 : open(path, O_RDWR | O_CREAT, 0600);
    if (file >= 0 && ftruncate(file, COUNTERS * sizeof(uint64_t)) == 0) {
      counters = mmap(
        NULL, COUNTERS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      counters = counters == MAP_FAILED ? NULL : counters;
    }
    watched = 1;
  }
  return real(thread, name);
}

// The middleware is named by hand: rcl's symbols are bound before this library could be asked.
static void * rcl(const char * name)
{
  void * found = next(name);
  return found != NULL ? found : dlsym(dlopen("librcl.so", RTLD_NOW | RTLD_NOLOAD), name);
}

int rcl_take_serialized_message(void * from, void * into, void * info, void * allocation)
{
  static int (* real)(void *, void *, void *, void *);
  if (real == NULL) {real = rcl("rcl_take_serialized_message");}
  in_middleware = 1;
  int result = real(from, into, info, allocation);
  in_middleware = 0;
  return result;
}

int rcl_publish_serialized_message(void * to, void * message, void * allocation)
{
  static int (* real)(void *, void *, void *);
  if (real == NULL) {real = rcl("rcl_publish_serialized_message");}
  in_middleware = 1;
  int result = real(to, message, allocation);
  in_middleware = 0;
  return result;
}
