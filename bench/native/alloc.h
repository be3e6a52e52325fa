/* Memory, or the end of the program: a load that has none left can say nothing true about a server. */
#ifndef ALLOC_H
#define ALLOC_H

#include <stddef.h>

void *xalloc(void *old, size_t count, size_t each); /* As realloc: `old` (or NULL), with room for so many of so many bytes. */
void *xzeroed(size_t count, size_t each); /* As calloc. */

#endif
