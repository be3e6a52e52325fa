#define _GNU_SOURCE
#include "alloc.h"

#include "ending.h"

#include <stdio.h>
#include <stdlib.h>

static void *or_fail(void *made, size_t count, size_t each)
{
    char text[64];
    if (made)
        return made;
    snprintf(text, sizeof text, "%zu × %zu bytes are not to be had", count, each);
    fail("out of memory", text);
}

void *xalloc(void *old, size_t count, size_t each)
{
    return or_fail(reallocarray(old, count ? count : 1, each), count, each);
}

void *xzeroed(size_t count, size_t each)
{
    return or_fail(calloc(count ? count : 1, each), count, each);
}
