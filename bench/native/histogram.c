#include "histogram.h"

#include <inttypes.h>

static unsigned bucket_of(uint64_t ns)
{
    if (ns < 1u << FINE_BITS)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - FINE_BITS;
    return ((shift + 1) << FINE_BITS) + (unsigned)((ns >> shift) & ((1u << FINE_BITS) - 1));
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 1u << FINE_BITS)
        return bucket;
    unsigned shift = (bucket >> FINE_BITS) - 1;
    uint64_t least = ((uint64_t)(1u << FINE_BITS) + (bucket & ((1u << FINE_BITS) - 1))) << shift;
    return least + ((1ull << shift) >> 1);
}

void histogram_add(Histogram *histogram, int64_t ns)
{
    uint64_t value = ns > 0 ? (uint64_t)ns : 0;
    histogram->counts[bucket_of(value)]++;
    if (value > histogram->max_ns)
        histogram->max_ns = value;
}

void histogram_print(const Histogram *histogram, FILE *out)
{
    const char *comma = "";
    fprintf(out, "{\"max_ns\": %" PRIu64 ", \"counts\": [", histogram->max_ns);
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        if (!histogram->counts[bucket])
            continue;
        fprintf(out, "%s[%" PRIu64 ", %" PRIu64 "]", comma, middle_of(bucket), histogram->counts[bucket]);
        comma = ", ";
    }
    fputs("]}", out);
}
