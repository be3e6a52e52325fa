#include "object_session.h"

#include "alloc.h"
#include "orders.h"

enum { PING_BYTES = 2 + 4, REMEMBERED = 4096 };

/* A ping has no room for a stamp: its time is its number. */
static void ask(Session *session, Buffer *out, uint64_t now)
{
    uint8_t body[PING_BYTES] = { 0, PING_REQUEST };
    if (session->sent - session->answered > REMEMBERED)
        fail("a pinger", "more pings are unanswered than it remembers the times of");
    put32(body + 2, (uint32_t)session->sent);
    session->asked_ns[session->sent % REMEMBERED] = now;
    write_control(out, 2, USER_CONTROL, 0, body, sizeof body);
}

static const char *hear(Client *client, const Channel *message, uint64_t now)
{
    Session *session = (Session *)client;
    if (message->type != USER_CONTROL)
        return NULL;
    uint32_t number = get32(message->body + 2);
    if (number != session->answered + 1 || number > session->sent) {
        tally.disordered++;
        return NULL;
    }
    session->answered++;
    tally.answered++;
    tally.deliveries++;
    histogram_add(&latency, (int64_t)(now - session->asked_ns[number % REMEMBERED]));
    return NULL;
}

static void prepare(Session *session)
{
    session->asked_ns = xzeroed(REMEMBERED, sizeof *session->asked_ns);
}

static const char *open_pinger(Session *session, int epoll_fd)
{
    (void)epoll_fd;
    session->ready = true;
    return NULL;
}

static uint64_t lacks(const Session *session)
{
    (void)session;
    return 0;
}

void pinger_make(Session *session)
{
    session->client.order->hear = hear;
    session->prepare = prepare;
    session->open = open_pinger;
    session->ask = ask;
    session->lacks = lacks;
}
