#define _GNU_SOURCE
#include "amf.h"

#include <stdio.h>
#include <string.h>

/* Writing (AMF0 2.2, 2.4, 2.5) */

void amf_key(Buffer *out, const char *name)
{
    size_t size = strlen(name);
    uint8_t head[] = { (uint8_t)(size >> 8), (uint8_t)size };
    buffer_add(out, head, sizeof head);
    buffer_add(out, name, size);
}

void amf_string(Buffer *out, const char *text)
{
    buffer_add(out, "\x02", 1);
    amf_key(out, text);
}

void amf_number(Buffer *out, double value)
{
    uint64_t bits;
    uint8_t bytes[9] = { 0 };
    memcpy(&bits, &value, sizeof bits);
    put32(bytes + 1, (uint32_t)(bits >> 32));
    put32(bytes + 5, (uint32_t)bits);
    buffer_add(out, bytes, sizeof bytes);
}

void amf_null(Buffer *out)
{
    buffer_add(out, "\x05", 1);
}

/* Reading */

double amf_get_number(const uint8_t *at)
{
    uint64_t bits = get64(at);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void amf_find_text(const uint8_t *body, size_t length, const char *name, char *text, size_t size)
{
    size_t name_bytes = strlen(name);
    char key[32];
    key[0] = 0;
    key[1] = (char)name_bytes;
    memcpy(key + 2, name, name_bytes);
    key[2 + name_bytes] = 2; /* A string follows. */
    const uint8_t *found = memmem(body, length, key, name_bytes + 3);
    text[0] = 0;
    if (!found)
        return;
    const uint8_t *at = found + name_bytes + 3;
    size_t left = length - (size_t)(at - body), bytes = left < 2 ? 0 : (size_t)(at[0] << 8 | at[1]);
    if (left < 2 + bytes)
        return;
    snprintf(text, size, "%.*s", (int)bytes, (const char *)at + 2);
}

bool amf_is_named(const uint8_t *body, size_t length, const char *name)
{
    size_t size = strlen(name);
    return length >= 3 + size + 9 && body[0] == 2 && body[1] == 0 && body[2] == size && !memcmp(body + 3, name, size);
}
