/* The little of AMF0 that a client of the load needs. */
#ifndef AMF_H
#define AMF_H

#include "chunk.h"

void amf_string(Buffer *out, const char *text);
void amf_number(Buffer *out, double value);
void amf_key(Buffer *out, const char *name);
void amf_null(Buffer *out);

double amf_get_number(const uint8_t *at); /* What follows its marker. */
bool amf_is_named(const uint8_t *body, size_t length, const char *name); /* A command of this name, with a transaction id. */
/* The AMF0 string that a property of this name has, cut to `size`; empty where there is none. Names are looked for anywhere
   in the command: those of statuses appear nowhere else. */
void amf_find_text(const uint8_t *body, size_t length, const char *name, char *text, size_t size);

#endif
