#include "object_session.h"

#include "orders.h"

#include <stdio.h>
#include <string.h>

enum { CONNECT_TRANSACTIONS = 1, RESULT_BYTES = 3 + 7 + 9 + 1 };

static const char RESULT[] = "\x02\0\x07_result";

static void ask(Session *session, Buffer *out, uint64_t now)
{
    Buffer body = { 0 };
    Writing whole = { 0 };
    uint8_t value[STAMP_VALUE_BYTES];
    amf_string(&body, session->method);
    amf_number(&body, (double)(session->sent + CONNECT_TRANSACTIONS));
    amf_null(&body);
    stamp_write(value, session->sent, now);
    buffer_add(&body, value, sizeof value);
    write_message(out, &whole, 3, COMMAND_AMF0, 0, 0, DEFAULT_CHUNK_BYTES, body.bytes, body.size, NULL, 0);
    buffer_free(&body);
}

static const char *hear(Client *client, const Channel *message, uint64_t now)
{
    Session *session = (Session *)client;
    uint64_t number, sent_ns;
    if (message->type != COMMAND_AMF0)
        return NULL;
    if (message->length != RESULT_BYTES + STAMP_VALUE_BYTES || memcmp(message->body, RESULT, sizeof RESULT - 1)
        || !stamp_read(message->body + RESULT_BYTES, &number, &sent_ns)
        || amf_get_number(message->body + sizeof RESULT) != (double)(number + CONNECT_TRANSACTIONS)) {
        tally.strange++;
        return NULL;
    }
    uint64_t next = session->answered + 1;
    if (number < next || number > session->sent) {
        tally.disordered++;
        return NULL;
    }
    tally.missing += number - next;
    tally.deliveries++;
    tally.answered += number - session->answered;
    session->answered = number;
    histogram_add(&latency, (int64_t)(now - sent_ns));
    return NULL;
}

static const char *open_caller(Session *session, int epoll_fd)
{
    (void)epoll_fd;
    session->ready = true;
    return NULL;
}

static uint64_t lacks(const Session *session)
{
    (void)session;
    return 0; /* All that it gets are answers. */
}

void caller_make(Session *session, const char *method)
{
    text_of(method, session->method, sizeof session->method);
    session->client.order->hear = hear;
    session->open = open_caller;
    session->ask = ask;
    session->lacks = lacks;
}
