#include "object_session.h"

#include "alloc.h"
#include "orders.h"

#include <stdio.h>
#include <string.h>

/* RTMP 1.0, 7.1.3 */
enum {
    USE = 1,
    REQUEST_CHANGE = 3,
    CHANGE = 4,
    SUCCESS = 5,
    STATUS = 7,
    USE_SUCCESS = 11,
};
enum {
    NAME_BYTES = 5, /* "o0012": of an object; "03.17": of slot 17 of requester 3. */
    HEAD_BYTES = 2 + NAME_BYTES + 12,
    EVENT_BYTES = 1 + 4,
    KEY_BYTES = 2 + NAME_BYTES,
    REQUEST_BYTES = EVENT_BYTES + KEY_BYTES + STAMP_VALUE_BYTES,
    FLAG_PERSISTENT = 2,
};

static Session *requesters[MOST_OBJECTS][MOST_REQUESTERS];
static unsigned requester_counts[MOST_OBJECTS];

/* Names */

/* Two decimal digits, or a number that is too large. */
static unsigned two_digits(const uint8_t *at)
{
    unsigned tens = at[0] - '0', ones = at[1] - '0';
    return tens > 9 || ones > 9 ? MOST_OBJECTS : tens * 10 + ones;
}

static Place *place_of(Session *session, const uint8_t *name, size_t size)
{
    if (size != NAME_BYTES || name[0] != 'o')
        return NULL;
    unsigned object = two_digits(name + 1) * 100 + two_digits(name + 3);
    for (unsigned looked = 0; looked < session->place_count; looked++) {
        Place *place = &session->places[session->looked_at];
        if (place->object == object)
            return place;
        session->looked_at = (session->looked_at + 1) % session->place_count;
    }
    return NULL;
}

/* False where this is no slot of anybody who changes the object. */
static bool read_slot(const Place *place, const uint8_t *key, unsigned *requester, unsigned *slot)
{
    *requester = two_digits(key);
    *slot = two_digits(key + 3);
    return key[2] == '.' && *slot < batch && *requester < MOST_REQUESTERS && requesters[place->object][*requester];
}

/* Sending */

static void add_head(Buffer *out, unsigned object)
{
    uint8_t head[HEAD_BYTES] = { 0, NAME_BYTES };
    char name[16];
    snprintf(name, sizeof name, "o%04u", object);
    memcpy(head + 2, name, NAME_BYTES);
    head[2 + NAME_BYTES + 7] = persistent ? FLAG_PERSISTENT : 0;
    buffer_add(out, head, sizeof head);
}

static const char *open_member(Session *session, int epoll_fd)
{
    Buffer out = { 0 };
    uint8_t size[4];
    put32(size, SENT_CHUNK_BYTES);
    write_control(&out, 2, SET_CHUNK_SIZE, 0, size, sizeof size);
    for (unsigned number = 0; number < session->place_count; number++) {
        Buffer use = { 0 };
        Writing whole = { 0 };
        add_head(&use, session->places[number].object);
        buffer_add(&use, (uint8_t[EVENT_BYTES]) { USE }, EVENT_BYTES);
        write_message(&out, &whole, 3, SHARED_OBJECT_AMF0, 0, 0, SENT_CHUNK_BYTES, use.bytes, use.size, NULL, 0);
        buffer_free(&use);
    }
    const char *fault = client_send(&session->client, epoll_fd, &out);
    buffer_free(&out);
    return fault;
}

static void make_request(Session *session)
{
    Buffer *request = &session->request;
    add_head(request, session->places[0].object);
    for (unsigned slot = 0; slot < batch; slot++) {
        uint8_t event[REQUEST_BYTES] = { REQUEST_CHANGE };
        char key[16];
        put32(event + 1, REQUEST_BYTES - EVENT_BYTES);
        event[EVENT_BYTES + 1] = NAME_BYTES;
        snprintf(key, sizeof key, "%02u.%02u", session->requester, slot);
        memcpy(event + EVENT_BYTES + 2, key, NAME_BYTES);
        buffer_add(request, event, sizeof event);
    }
}

static void ask(Session *session, Buffer *out, uint64_t now)
{
    Writing whole = { 0 };
    Buffer *request = &session->request;
    uint8_t *first = request->bytes + HEAD_BYTES + EVENT_BYTES + KEY_BYTES;
    stamp_write(first, session->sent, now);
    for (unsigned slot = 1; slot < batch; slot++)
        memcpy(first + slot * REQUEST_BYTES, first, STAMP_VALUE_BYTES);
    write_message(
        out, &whole, 3, SHARED_OBJECT_AMF0, 0, 0, SENT_CHUNK_BYTES, request->bytes, request->size, NULL, 0);
}

/* Hearing */

/* A change of which it is known which one it is. */
static void came(Place *place, unsigned requester, uint64_t which)
{
    uint64_t *next = &place->next[requester];
    tally.deliveries++;
    if (which < *next) {
        tally.disordered++;
        return;
    }
    tally.missing += which - *next;
    *next = which + 1;
}

/* One event may hold several slots. */
static void hear_changes(Session *session, Place *place, const uint8_t *at, size_t size, uint64_t now)
{
    for (; size; at += KEY_BYTES + STAMP_VALUE_BYTES, size -= KEY_BYTES + STAMP_VALUE_BYTES) {
        unsigned requester, slot;
        uint64_t number, sent_ns;
        if (size < KEY_BYTES + STAMP_VALUE_BYTES || at[0] || at[1] != NAME_BYTES || !read_slot(place, at + 2, &requester, &slot)
            || !stamp_read(at + KEY_BYTES, &number, &sent_ns) || !number || number > requesters[place->object][requester]->sent
            || requesters[place->object][requester] == session) {
            tally.strange++;
            return;
        }
        came(place, requester, (number - 1) * batch + slot);
        histogram_add(&latency, (int64_t)(now - sent_ns));
    }
}

/* It carries no value: the next change of that slot is meant. */
static void hear_success(Session *session, Place *place, const uint8_t *at, size_t size)
{
    unsigned requester, slot;
    if (size != KEY_BYTES || at[0] || at[1] != NAME_BYTES || !read_slot(place, at + 2, &requester, &slot)
        || requesters[place->object][requester] != session) {
        tally.strange++;
        return;
    }
    uint64_t next = place->next[requester];
    unsigned expected = (unsigned)(next % batch);
    came(place, requester, next + (slot + batch - expected) % batch);
    uint64_t answered = place->next[requester] / batch;
    tally.answered += answered - session->answered;
    session->answered = answered;
}

/* Until the object is there: its content is none of ours. */
static const char *hear_joining(Session *session, Place *place, uint8_t kind, const uint8_t *at, size_t size)
{
    static char refusal[96];
    if (kind == STATUS && size > 2) {
        size_t code_bytes = (size_t)(at[0] << 8 | at[1]);
        snprintf(refusal, sizeof refusal, "%.*s", (int)(code_bytes < size - 2 ? code_bytes : size - 2), (const char *)at + 2);
        return refusal;
    }
    if (kind == USE_SUCCESS) {
        place->joined = true;
        session->joined++;
        session->ready = session->joined == session->place_count;
    }
    return NULL;
}

static const char *hear_object(Session *session, const uint8_t *at, size_t size, uint64_t now)
{
    const uint8_t *end = at + size;
    if (size < HEAD_BYTES)
        return "a SharedObject message without a whole head";
    Place *place = place_of(session, at + 2, (size_t)(at[0] << 8 | at[1]));
    if (!place) {
        tally.strange++;
        return NULL;
    }
    bool joined = place->joined;
    uint32_t version = get32(at + 2 + NAME_BYTES);
    if (joined) {
        tally.messages++;
        tally.disordered += version < place->version;
    }
    place->version = version;
    at += HEAD_BYTES;
    while (at < end) {
        size_t left = (size_t)(end - at);
        if (left < EVENT_BYTES || left - EVENT_BYTES < get32(at + 1))
            return "a SharedObject event that is cut short";
        uint8_t kind = at[0];
        size_t bytes = get32(at + 1);
        const uint8_t *data = at + EVENT_BYTES;
        const char *fault = NULL;
        if (!joined)
            fault = hear_joining(session, place, kind, data, bytes);
        else if (kind == CHANGE)
            hear_changes(session, place, data, bytes, now);
        else if (kind == SUCCESS)
            hear_success(session, place, data, bytes);
        else
            tally.strange++;
        if (fault)
            return fault;
        at = data + bytes;
    }
    return NULL;
}

static const char *hear(Client *client, const Channel *message, uint64_t now)
{
    if (message->type != SHARED_OBJECT_AMF0)
        return NULL;
    return hear_object((Session *)client, message->body, message->length, now);
}

static uint64_t lacks(const Session *session)
{
    uint64_t count = 0;
    for (unsigned number = 0; number < session->place_count; number++) {
        const Place *place = &session->places[number];
        for (unsigned requester = 0; requester < requester_counts[place->object]; requester++) {
            const Session *other = requesters[place->object][requester];
            count += other && other != session && place->next[requester] != other->sent * batch;
        }
    }
    return count;
}

/* Making */

static void prepare(Session *session)
{
    for (unsigned number = 0; number < session->place_count; number++) {
        Place *place = &session->places[number];
        place->next = xzeroed(requester_counts[place->object] + 1, sizeof *place->next);
    }
    if (session->ask)
        make_request(session);
}

void member_make(Session *session, char **words, unsigned count)
{
    bool asks = strcmp(words[0], "-");
    session->place_count = count - 1;
    session->places = xzeroed(count, sizeof *session->places);
    for (unsigned number = 0; number < session->place_count; number++) {
        session->places[number].object = number_of(words[1 + number]);
        if (session->places[number].object >= MOST_OBJECTS)
            refuse("too large for the number of an object", words[1 + number]);
    }
    if (asks) {
        unsigned object = session->places[0].object;
        session->requester = number_of(words[0]);
        if (session->requester >= MOST_REQUESTERS || session->place_count != 1 || requesters[object][session->requester])
            refuse("no number of a requester with one object", words[0]);
        requesters[object][session->requester] = session;
        if (requester_counts[object] <= session->requester)
            requester_counts[object] = session->requester + 1;
        session->ask = ask;
    }
    session->client.order->hear = hear;
    session->prepare = prepare;
    session->open = open_member;
    session->lacks = lacks;
}
