/* Runs a compiled network on raw files and times its layers; all that it must know of the network is in network.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "network.h"

#define TOLERANCE 1e-4
#define LEAST_RUNS 30

#if THREADS > 1
typedef struct npas_team npas_team;
npas_team *npas_team_new(void);
void npas_team_free(npas_team *team);
int npas_run_shared(const float *const *in, float *const *out, char *arena, const char *constants, uint64_t *stamps,
  npas_team *team);
#else
typedef void npas_team;
void npas_run(const float *const *in, float *const *out, char *arena, const char *constants, uint64_t *stamps);
#endif

typedef struct { char *bytes; long size; } content;
typedef struct { const char *name, *shape; long floats; } tensor;
typedef struct { const char *layer, *kernel; } step;

static const tensor inputs[INPUTS] = INPUT_TENSORS, outputs[OUTPUTS] = OUTPUT_TENSORS;
static const step steps[KERNELS] = STEPS;

static void usage(FILE *to)
{
  fprintf(to,
    "usage: network [-n RUNS] [-w WEIGHTS] [-o PREFIX] [-e PREFIX] INPUT...\n"
    "       network -s SECONDS [-w WEIGHTS]\n\n"
    "Runs a network compiled by npas for " TARGET ", and prints the microseconds that each layer takes.\n\n"
    "  INPUT       a raw file for each input: float32 (whole numbers too), little-endian, for one image or several:\n");
  for (long i = 0; i < INPUTS; i++)
    fprintf(to, "                %s: %s, %ld bytes an image\n", inputs[i].name, inputs[i].shape, 4 * inputs[i].floats);
  fprintf(to, "  -o PREFIX   writes the outputs of all images, raw, to PREFIX0.bin, ...; default: output\n");
  for (long i = 0; i < OUTPUTS; i++)
    fprintf(to, "                %s: %s, %ld bytes an image\n", outputs[i].name, outputs[i].shape, 4 * outputs[i].floats);
  fprintf(to,
    "  -e PREFIX   compares them with PREFIX0.bin, ...; exit status 1 if they differ by more than %g of the largest\n"
    "  -n RUNS     timed runs on the first image, whose median is printed; default: 30; 0 times nothing\n"
    "  -s SECONDS  runs on random numbers for so long, at least 30 times, and prints each run as a line: thread CPU and\n"
    "              wall nanoseconds of the network, and those of each layer in a second run with time stamps\n"
    "  -w WEIGHTS  default: weights.bin beside the program\n", TOLERANCE);
}

static void fail(const char *name, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void fail(const char *name, const char *format, ...)
{
  va_list values;
  va_start(values, format);
  fprintf(stderr, "network: %s: ", name);
  vfprintf(stderr, format, values);
  fprintf(stderr, "\n");
  va_end(values);
  exit(2);
}

static void *allocate(long size)
{
  void *memory;
  if (posix_memalign(&memory, 64, size > 0 ? size : 1)) fail("OutOfMemory", "cannot allocate %ld bytes", size);
  memset(memory, 0, size);
  return memory;
}

static content read_file(const char *path, const char *missing)
{
  content file;
  FILE *stream = fopen(path, "rb");
  if (!stream) fail(missing, "cannot open %s: %s", path, strerror(errno));
  if (fseek(stream, 0, SEEK_END) || (file.size = ftell(stream)) < 0) fail(missing, "cannot measure %s", path);
  rewind(stream);
  file.bytes = allocate(file.size);
  if (fread(file.bytes, 1, file.size, stream) != (size_t)file.size) fail(missing, "cannot read all of %s", path);
  fclose(stream);
  return file;
}

static void write_file(const char *path, const void *bytes, long size)
{
  FILE *stream = fopen(path, "wb");
  if (!stream || fwrite(bytes, 1, size, stream) != (size_t)size || fclose(stream))
    fail("OutputUnwritable", "cannot write %s: %s", path, strerror(errno));
}

static uint32_t crc32(const unsigned char *bytes, long size)
{
  uint32_t table[256], crc = 0xffffffffu;
  for (uint32_t i = 0; i < 256; i++) {
    table[i] = i;
    for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320u : 0);
  }
  for (long i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
  return ~crc;
}

static char *read_weights(const char *path, const char *program)
{
  char *beside = allocate(strlen(program) + sizeof "weights.bin");
  const char *slash = strrchr(program, '/');
  if (!path) {
    sprintf(beside, "%.*sweights.bin", slash ? (int)(slash + 1 - program) : 0, program);
    path = beside;
  }
  const content file = read_file(path, "WeightsMissing");
  if (file.size != WEIGHT_BYTES)
    fail("WeightsWrong", "%s holds %ld bytes where this network has %ld", path, file.size, (long)WEIGHT_BYTES);
  if (crc32((const unsigned char *)file.bytes, file.size) != WEIGHT_CRC32)
    fail("WeightsWrong", "%s was altered, or belongs to another network", path);
  free(beside);
  return file.bytes;
}

/* Each input's numbers; returns the number of images. */
static long read_inputs(char *const *paths, float **values)
{
  long images = 0;
  for (long i = 0; i < INPUTS; i++) {
    const content file = read_file(paths[i], "InputMissing");
    const long image = 4 * inputs[i].floats, found = file.size / image;
    if (file.size == 0 || file.size % image)
      fail("InputShort", "%s holds %ld bytes; %s is float32 of shape %s, %ld bytes an image", paths[i], file.size,
        inputs[i].name, inputs[i].shape, image);
    if (i > 0 && found != images)
      fail("InputShort", "%s holds %ld images where %s holds %ld", paths[i], found, paths[0], images);
    values[i] = (float *)file.bytes;
    images = found;
  }
  return images;
}

/* The largest difference, relative to the largest expected number; NaN where there is one. */
static double difference(const float *found, const float *expected, long count)
{
  double largest = 0, scale = 0;
  for (long i = 0; i < count; i++) {
    const double apart = found[i] > expected[i] ? found[i] - expected[i] : expected[i] - found[i];
    const double size = expected[i] < 0 ? -expected[i] : expected[i];
    if (apart != apart) return apart;
    if (apart > largest) largest = apart;
    if (size > scale) scale = size;
  }
  return scale > 0 ? largest / scale : largest;
}

static int compare(const char *prefix, float *const *values, long images)
{
  int worse = 0;
  for (long i = 0; i < OUTPUTS; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s%ld.bin", prefix, i);
    const content file = read_file(path, "ExpectedMissing");
    const long count = images * outputs[i].floats;
    if (file.size != 4 * count)
      fail("ExpectedShort", "%s holds %ld bytes; %ld images of %s take %ld", path, file.size, images,
        outputs[i].name, 4 * count);
    const double apart = difference(values[i], (const float *)file.bytes, count);
    printf("%s: differs from %s by %.1e of the largest\n", outputs[i].name, path, apart);
    worse |= !(apart <= TOLERANCE);
    free(file.bytes);
  }
  return worse;
}

static npas_team *new_team(void)
{
#if THREADS > 1
  npas_team *team = npas_team_new();
  if (!team) fail("OutOfMemory", "there is no memory for a team of threads");
  return team;
#else
  return 0;
#endif
}

static void free_team(npas_team *team)
{
#if THREADS > 1
  npas_team_free(team);
#else
  (void)team;
#endif
}

static void run_once(const float *const *in, float *const *out, char *arena, const char *weights, uint64_t *stamps,
  npas_team *team)
{
#if THREADS > 1
  const int error = npas_run_shared(in, out, arena, weights, stamps, team);
  if (error) fail("ThreadsUnavailable", "%d threads could not be started: %s", THREADS - 1, strerror(error));
#else
  (void)team;
  npas_run(in, out, arena, weights, stamps);
#endif
}

static uint64_t now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

static double median_us(uint64_t *times, long count)
{
  qsort(times, count, sizeof *times, by_size);
  return (times[(count - 1) / 2] + times[count / 2]) / 2e3;
}

/* Runs with and without time stamps between the layers alternate; the first tenth is thrown away. */
static void time_layers(const float *const *in, float *const *out, char *arena, const char *weights, npas_team *team,
  long runs)
{
  const long warm = runs / 10 + 1;
  uint64_t *whole = allocate(8 * runs), *times = allocate(8 * KERNELS * runs), stamps[KERNELS + 1];
  for (long run = -warm; run < runs; run++) {
    const uint64_t begin = now();
    run_once(in, out, arena, weights, 0, team);
    const uint64_t spent = now() - begin;
    run_once(in, out, arena, weights, stamps, team);
    if (run < 0) continue;
    whole[run] = spent;
    for (long k = 0; k < KERNELS; k++) times[k * runs + run] = stamps[k + 1] - stamps[k];
  }
  double medians[KERNELS], sum = 0;
  for (long k = 0; k < KERNELS; k++) sum += medians[k] = median_us(times + k * runs, runs);
  printf("%-40s %-40s %10s %8s\n", "layer", "kernel", "median us", "share");
  for (long k = 0; k < KERNELS; k++)
    printf("%-40s %-40s %10.2f %6.1f %%\n", steps[k].layer, steps[k].kernel, medians[k],
      sum > 0 ? 100 * medians[k] / sum : 0.0);
  printf("%-40s %-40s %10.2f\n", "sum of the layers", "", sum);
  printf("%-40s %-40s %10.2f\n", "network, without stamps between layers", "", median_us(whole, runs));
  printf("medians of %ld runs of one image on %d thread%s\n", runs, THREADS, THREADS > 1 ? "s" : "");
  free(whole);
  free(times);
}

/* Numbers from -1 to 1; which ones makes no difference to the time. */
static void fill(float *values, long count)
{
  uint32_t state = 1;
  for (long i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    values[i] = (float)(state >> 8) / 8388608.0f - 1.0f;
  }
}

static uint64_t cpu_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* For a program to read: a line a run, between lines that say how many numbers it has and that none is missing. The
   first tenth of the time is thrown away. */
static void print_times(const float *const *in, float *const *out, char *arena, const char *weights, npas_team *team,
  double seconds)
{
  const uint64_t limit = (uint64_t)(seconds * 1e9), warm = now() + limit / 10;
  uint64_t stamps[KERNELS + 1], end = 0;
  printf("npas-times %d\n", KERNELS);
  for (long runs = 0; runs < LEAST_RUNS || now() < end;) {
    const uint64_t cpu = cpu_now(), begin = now();
    run_once(in, out, arena, weights, 0, team);
    const uint64_t wall = now() - begin, spent = cpu_now() - cpu;
    run_once(in, out, arena, weights, stamps, team);
    if (!end && now() < warm) continue;
    if (!end) end = now() + limit;
    printf("%llu %llu", (unsigned long long)spent, (unsigned long long)wall);
    for (long k = 0; k < KERNELS; k++) printf(" %llu", (unsigned long long)(stamps[k + 1] - stamps[k]));
    printf("\n");
    runs++;
  }
  printf("npas-end\n");
}

/* All inputs lie in the same memory, lest those of other kernels displace what a kernel needs. */
static void time_on_random_numbers(char *weights, double seconds)
{
  float *out[OUTPUTS];
  const float *image[INPUTS];
  char *arena = allocate(ARENA_BYTES);
  npas_team *team = new_team();
  long most = 0;
  for (long i = 0; i < INPUTS; i++) if (inputs[i].floats > most) most = inputs[i].floats;
  float *numbers = allocate(4 * most);
  fill(numbers, most);
  for (long i = 0; i < INPUTS; i++) image[i] = numbers;
  for (long i = 0; i < OUTPUTS; i++) out[i] = allocate(4 * outputs[i].floats);
  print_times(image, out, arena, weights, team, seconds);
  free(numbers);
  for (long i = 0; i < OUTPUTS; i++) free(out[i]);
  free_team(team);
  free(arena);
  free(weights);
}

static double parse_seconds(const char *text)
{
  char *end;
  const double seconds = strtod(text, &end);
  if (end == text || *end || !(seconds >= 0 && seconds <= 3600))
    fail("InvalidSeconds", "-s takes a number from 0 to 3600, not %s", text);
  return seconds;
}

static long parse_runs(const char *text)
{
  char *end;
  errno = 0;
  const long runs = strtol(text, &end, 10);
  if (end == text || *end || errno || runs < 0 || runs > 1000000)
    fail("InvalidRuns", "-n takes a whole number from 0 to 1000000, not %s", text);
  return runs;
}

int main(int count, char **arguments)
{
  const char *prefix = "output", *expected = 0, *weights_path = 0;
  long runs = LEAST_RUNS;
  double seconds = -1;
  for (int option; (option = getopt(count, arguments, "hn:s:w:o:e:")) != -1;) switch (option) {
    case 'h': usage(stdout); return 0;
    case 'n': runs = parse_runs(optarg); break;
    case 's': seconds = parse_seconds(optarg); break;
    case 'w': weights_path = optarg; break;
    case 'o': prefix = optarg; break;
    case 'e': expected = optarg; break;
    default: usage(stderr); return 2;
  }
  if (seconds >= 0 && count == optind) {
    time_on_random_numbers(read_weights(weights_path, arguments[0]), seconds);
    return 0;
  }
  if (seconds >= 0 || count - optind != INPUTS) {
    usage(stderr);
    fail("InputMissing", "%d input files were given, this network takes %d", count - optind, INPUTS);
  }
  float *in[INPUTS], *out[OUTPUTS];
  char *weights = read_weights(weights_path, arguments[0]), *arena = allocate(ARENA_BYTES);
  npas_team *team = new_team();
  const long images = read_inputs(arguments + optind, in);
  for (long i = 0; i < OUTPUTS; i++) out[i] = allocate(4 * outputs[i].floats * images);

  const float *image[INPUTS];
  float *result[OUTPUTS];
  for (long n = images - 1; n >= 0; n--) {
    for (long i = 0; i < INPUTS; i++) image[i] = in[i] + n * inputs[i].floats;
    for (long i = 0; i < OUTPUTS; i++) result[i] = out[i] + n * outputs[i].floats;
    run_once(image, result, arena, weights, 0, team);
  }
  for (long i = 0; i < OUTPUTS; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s%ld.bin", prefix, i);
    write_file(path, out[i], 4 * outputs[i].floats * images);
  }
  const int worse = expected ? compare(expected, out, images) : 0;
  if (runs > 0) time_layers(image, result, arena, weights, team, runs);
  for (long i = 0; i < INPUTS; i++) free(in[i]);
  for (long i = 0; i < OUTPUTS; i++) free(out[i]);
  free_team(team);
  free(weights);
  free(arena);
  return worse;
}
