"""The C text of a team of threads that run the kernels of one network together.

The caller is the first of them. Each goes through the same sequence of kernels and does its part of those that are
shared; where one kernel needs what others have written, all meet. They wait actively, since a thread that sleeps takes
20 microseconds to wake up, as long as a whole kernel. Between runs they go to sleep after a while.

A team knows nothing of what it runs: the driver defines `npas_work`. It belongs to one loaded network, starts its
threads at the first run, and starts them anew in a process that was forked from the one that it lived in.
"""

from __future__ import annotations

SPIN_NS = 1_000_000
"""How long an idle thread waits actively for the next run before it goes to sleep."""
SPINS = 200
"""Turns, some 10 microseconds, that a waiting thread makes before it lets others run at each: whom it waits for may be
waiting for the same core."""
APART = 128
"""Bytes between what different threads write: two cache lines, since they are often fetched in pairs."""

_TEAM = """
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#if defined(__x86_64__)
#define NPAS_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define NPAS_PAUSE() __asm__ volatile("isb")
#else
#define NPAS_PAUSE() ((void)0)
#endif

enum {{ npas_threads = {threads}, npas_meetings = {meetings} }};

typedef struct npas_team npas_team;

/* The control registers of floating-point arithmetic: how the caller rounds and treats denormal numbers. */
typedef uint64_t npas_arithmetic;

typedef struct {{
  const float *const *in;
  float *const *out;
  char *arena;
  const char *constants;
  uint64_t *stamps;
  npas_arithmetic arithmetic;
}} npas_job;

typedef struct {{
  npas_team *team;
  long number;
  pthread_t thread;
}} npas_member;

struct npas_team {{
  _Alignas({apart}) uint64_t begun;   /* runs so far; also counts the order to stop */
  uint64_t stopping;
  npas_job job;                 /* of the last run that was begun */
  _Alignas({apart}) uint64_t arrived; /* arrivals at all meetings of all runs */
  _Alignas({apart}) uint64_t asleep;  /* members that sleep, or are about to */
  pthread_mutex_t turn;         /* held by a caller for its whole run */
  pthread_mutex_t door;
  pthread_cond_t bell;
  uint64_t forks;               /* of the process, when the threads were started */
  int started;
  npas_member members[npas_threads];
}};

static void npas_work(const npas_job *job, npas_team *team, long me, uint64_t met);

static uint64_t npas_forks;
static pthread_once_t npas_watched = PTHREAD_ONCE_INIT;
static void npas_forked(void) {{ npas_forks++; }}
static void npas_watch_forks(void) {{ pthread_atfork(0, 0, npas_forked); }}

static npas_arithmetic npas_get_arithmetic(void)
{{
  npas_arithmetic a = 0;
#if defined(__x86_64__)
  a = __builtin_ia32_stmxcsr();
#elif defined(__aarch64__)
  __asm__ volatile("mrs %0, fpcr" : "=r"(a));
#endif
  return a;
}}

static void npas_set_arithmetic(npas_arithmetic a)
{{
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr((unsigned)a);
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(a));
#endif
  (void)a;
}}

static void npas_spin(long turns)
{{
  if (turns < {spins}) NPAS_PAUSE();
  else sched_yield();
}}

/* Wait for the whole team; `met` counts the arrivals that there are then, and is each member's own. */
static void npas_meet(npas_team *team, uint64_t *met)
{{
  if (!team) return;
  *met += npas_threads;
  if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) >= *met) return;
  for (long turns = 0; __atomic_load_n(&team->arrived, __ATOMIC_ACQUIRE) < *met; turns++) npas_spin(turns);
}}

static void npas_begin(npas_team *team)
{{
  __atomic_add_fetch(&team->begun, 1, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&team->asleep, __ATOMIC_SEQ_CST)) return;
  pthread_mutex_lock(&team->door);
  pthread_cond_broadcast(&team->bell);
  pthread_mutex_unlock(&team->door);
}}

static void npas_await(npas_team *team, uint64_t run)
{{
  const uint64_t tired = npas_now() + {spin_ns};
  for (long turns = 1; __atomic_load_n(&team->begun, __ATOMIC_ACQUIRE) < run; turns++) {{
    npas_spin(turns);
    if (turns % 64 || npas_now() < tired) continue;
    pthread_mutex_lock(&team->door);
    __atomic_add_fetch(&team->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&team->begun, __ATOMIC_SEQ_CST) < run) pthread_cond_wait(&team->bell, &team->door);
    __atomic_sub_fetch(&team->asleep, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&team->door);
  }}
}}

static void *npas_live(void *argument)
{{
  const npas_member *self = argument;
  npas_team *team = self->team;
  for (uint64_t run = 1;; run++) {{
    npas_await(team, run);
    if (team->stopping) return 0;
    npas_set_arithmetic(team->job.arithmetic);
    npas_work(&team->job, team, self->number, (run - 1) * npas_meetings * npas_threads);
  }}
}}

/* Stop the members 1 to `last` - 1. */
static void npas_dismiss(npas_team *team, long last)
{{
  team->stopping = 1;
  npas_begin(team);
  for (long i = 1; i < last; i++) pthread_join(team->members[i].thread, 0);
  team->started = 0;
}}

/* Start all members but the caller; members take no signals. Returns 0, or the system's error. */
static int npas_start(npas_team *team)
{{
  sigset_t all, before;
  int error = 0;
  team->begun = team->stopping = team->arrived = team->asleep = 0;
  team->forks = npas_forks;
  pthread_mutex_init(&team->door, 0);
  pthread_cond_init(&team->bell, 0);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (long i = 1; i < npas_threads && !error; i++) {{
    team->members[i].team = team;
    team->members[i].number = i;
    error = pthread_create(&team->members[i].thread, 0, npas_live, &team->members[i]);
    if (error) npas_dismiss(team, i);
  }}
  pthread_sigmask(SIG_SETMASK, &before, 0);
  team->started = !error;
  return error;
}}

/* A team without threads yet, or null if there is no memory. */
__attribute__((visibility("default")))
npas_team *npas_team_new(void)
{{
  void *team;
  pthread_once(&npas_watched, npas_watch_forks);
  if (posix_memalign(&team, {apart}, sizeof(npas_team))) return 0;
  memset(team, 0, sizeof(npas_team));
  pthread_mutex_init(&((npas_team *)team)->turn, 0);
  ((npas_team *)team)->forks = npas_forks;
  return team;
}}

/* Stop the threads and give the memory back; nobody may be running. */
__attribute__((visibility("default")))
void npas_team_free(npas_team *team)
{{
  if (team->started && team->forks == npas_forks) npas_dismiss(team, npas_threads);
  free(team);
}}

/* Run on a team. Returns 0, or the system's error if its threads could not be started. */
__attribute__((visibility("default")))
int npas_run_shared(const float *const *in, float *const *out, char *arena, const char *constants, uint64_t *stamps,
  npas_team *team)
{{
  if (team->forks != npas_forks) {{
    team->forks = npas_forks;
    team->started = 0;
    pthread_mutex_init(&team->turn, 0);
  }}
  pthread_mutex_lock(&team->turn);
  const int error = team->started ? 0 : npas_start(team);
  if (!error) {{
    team->job = (npas_job){{ in, out, arena, constants, stamps, npas_get_arithmetic() }};
    npas_begin(team);
    npas_work(&team->job, team, 0, (team->begun - 1) * npas_meetings * npas_threads);
  }}
  pthread_mutex_unlock(&team->turn);
  return error;
}}
"""


def team(threads: int, meetings: int) -> str:
    """C definitions of a team of `threads` that meets `meetings` times a run."""
    return _TEAM.format(threads=threads, meetings=meetings, spins=SPINS, spin_ns=SPIN_NS, apart=APART)
