/* Counts of durations, exact to 1/128: enough for percentiles, small enough to stay in the cache. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum { FINE_BITS = 7, BUCKETS = (64 - FINE_BITS) << FINE_BITS };

typedef struct {
    uint64_t counts[BUCKETS];
    uint64_t max_ns;
} Histogram;

void histogram_add(Histogram *histogram, int64_t ns); /* Below 0 counts as 0: clocks of one machine do not run back. */
void histogram_print(const Histogram *histogram, FILE *out); /* {"max_ns": N, "counts": [[middle of a bucket, count], ...]} */

#endif
