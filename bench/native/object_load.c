/* The load generator of the object and call benchmarks: one process, one epoll. Orders come on standard input, answers go to
   standard output; bench/request_load.py is the other side:

     batch CHANGES PERSISTENT                     before any "open": of every message of a requester; whether objects are (0 or 1)
     member HOST PORT APP REQUESTER OBJECT...     APP with the instance; REQUESTER: its number among those of its one object, or -
     caller HOST PORT APP METHOD                  of which it expects the one argument as the result
     pinger HOST PORT APP                         RTMP's own pings
     open UNDER_WAY                               once: all of them, so many at a time
     run WINDOW                                   everyone who asks has so many messages unanswered
     pace MESSAGES_S                              all together send so many, in turn
     begin
     end SECONDS                                  of a window: answered when all has come that was sent, or so much later
     stop                                         or the end of the input

     {"event": "opened", "role": "client", "count": N}    while they open
     {"event": "ready", "role": "client", "count": N, "wall_s": S}
     {"event": "window", ...}
     {"event": "failed", "text": ...}             and it ends: with status 2 for an order that it cannot obey, else with 1 */

#define _GNU_SOURCE
#include "alloc.h"
#include "object_session.h"
#include "orders.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS = 256, LOOK_NS = 20000000, MOST_BACKLOG_BYTES = 4000000, SENT_IN_A_TURN = 64, BEAT_NS = 1000000 };

unsigned batch = 1;
bool persistent = true;
Tally tally;
Histogram latency;

static int epoll_fd;
static Session **sessions, **asking;
static unsigned session_count, asking_count, made, ready, under_way;
static uint64_t opening_ns;

/* Sending: `window_messages` unanswered, or one every 1 / `pace` s; neither where both are 0. */
static unsigned window_messages;
static double pace;
static uint64_t pace_from_ns, paced, lag_ns;

/* A window */
static struct {
    Tally tally;
    Moment at;
} begun, ended;
static Histogram seen; /* Of the window: `latency` at its end. */
static uint64_t drain_until_ns, look_at_ns; /* 0: not ending. */

/* Values */

void stamp_write(uint8_t *at, uint64_t number, uint64_t now)
{
    static const char digits[] = "0123456789abcdef";
    memcpy(at, "\x02\0\x18", 3);
    for (unsigned place = 0; place < 8; place++)
        at[3 + place] = (uint8_t)digits[number >> (28 - 4 * place) & 15];
    for (unsigned place = 0; place < 16; place++)
        at[11 + place] = (uint8_t)digits[now >> (60 - 4 * place) & 15];
}

static bool read_hexadecimal(const uint8_t *at, unsigned digits, uint64_t *value)
{
    *value = 0;
    for (unsigned place = 0; place < digits; place++) {
        unsigned digit = at[place] <= '9' ? (unsigned)at[place] - '0' : (unsigned)at[place] - 'a' + 10;
        if (digit > 15)
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

bool stamp_read(const uint8_t *at, uint64_t *number, uint64_t *sent_ns)
{
    return at[0] == 2 && !at[1] && at[2] == STAMP_DIGITS && read_hexadecimal(at + 3, 8, number)
        && read_hexadecimal(at + 11, 16, sent_ns);
}

/* Clients */

static void broken(Session *session, const char *fault)
{
    if (!session->ready) {
        char what[64];
        snprintf(what, sizeof what, "client %u of %u", session->client.number + 1, session_count);
        fail(what, fault);
    }
    client_close(&session->client);
    tally.closed++;
}

static void open_more(void)
{
    for (; made < session_count && made < ready + under_way; made++) {
        const char *fault = client_connect(&sessions[made]->client, epoll_fd);
        if (fault)
            broken(sessions[made], fault);
    }
}

static void became_ready(void)
{
    ready++;
    say_opened("client", ready, session_count, opening_ns);
    open_more();
}

static void send_messages(Session *session, uint64_t count)
{
    static Buffer out;
    uint64_t now = now_ns();
    if (session->client.state != OPEN || !count)
        return;
    out.size = 0;
    tally.sent += count;
    for (; count; count--) {
        session->sent++;
        session->ask(session, &out, now);
    }
    const char *fault = client_send(&session->client, epoll_fd, &out);
    if (fault)
        broken(session, fault);
    else if (session->client.out.size > MOST_BACKLOG_BYTES)
        fail("a client", "the server does not read what it sends");
}

static void fill_window(Session *session)
{
    uint64_t unanswered = session->sent - session->answered;
    if (session->ask && unanswered < window_messages)
        send_messages(session, window_messages - unanswered);
}

/* Returns when it is to be called again at the latest: at the beat by which the next one is due, and those behind it with it. To
   wake for each would cost more than to send it. */
static uint64_t send_due(void)
{
    for (unsigned count = 0;; count++) {
        uint64_t due = pace_from_ns + (uint64_t)((double)paced / pace * 1e9), now = now_ns();
        if (due > now)
            return due + BEAT_NS - (due - pace_from_ns) % BEAT_NS;
        if (count == SENT_IN_A_TURN)
            return due;
        if (now - due > lag_ns)
            lag_ns = now - due;
        send_messages(asking[paced++ % asking_count], 1);
    }
}

static void serve(Session *session, uint32_t events)
{
    Client *client = &session->client;
    if (client->state == CLOSED)
        return; /* By an order that came with the same events. */
    bool was_open = client->state == OPEN, was_ready = session->ready;
    const char *fault = client_ready(client, epoll_fd, events);
    if (!fault && client->state == OPEN && !was_open)
        fault = session->open(session, epoll_fd);
    if (fault)
        return broken(session, fault);
    if (session->ready && !was_ready)
        became_ready();
    fill_window(session);
}

/* Windows */

static void begin_window(void)
{
    memset(&latency, 0, sizeof latency);
    lag_ns = 0;
    begun.tally = tally;
    begun.at = moment_now();
}

static void end_window(double drain_s)
{
    ended.tally = tally;
    ended.at = moment_now();
    seen = latency;
    window_messages = 0;
    pace = 0;
    drain_until_ns = ended.at.at_ns + (uint64_t)(drain_s * 1e9);
    look_at_ns = ended.at.at_ns + LOOK_NS;
}

static void report(uint64_t unanswered, uint64_t behind)
{
    const Tally *from = &begun.tally, *to = &ended.tally;
    say_window(&begun.at, &ended.at);
    printf(", \"sent\": %" PRIu64 ", \"answered\": %" PRIu64 ", \"messages\": %" PRIu64 ", \"deliveries\": %" PRIu64
           ", \"lag_ms\": %.3f",
        to->sent - from->sent, to->answered - from->answered, to->messages - from->messages,
        to->deliveries - from->deliveries, (double)lag_ns / 1e6);
    printf(", \"missing\": %" PRIu64 ", \"disordered\": %" PRIu64 ", \"strange\": %" PRIu64 ", \"closed\": %" PRIu64
           ", \"unanswered\": %" PRIu64 ", \"behind\": %" PRIu64 ", \"latency\": ",
        tally.missing - from->missing, tally.disordered - from->disordered, tally.strange - from->strange,
        tally.closed - from->closed, unanswered, behind);
    histogram_print(&seen, stdout);
    printf("}\n");
    fflush(stdout);
}

/* Whether all has come, or the time for it is over: then the window is reported. */
static void look_whether_all_came(void)
{
    uint64_t now = now_ns(), unanswered = 0, behind = 0;
    if (now < look_at_ns)
        return;
    look_at_ns = now + LOOK_NS;
    for (unsigned number = 0; number < session_count; number++) {
        unanswered += sessions[number]->sent - sessions[number]->answered;
        behind += sessions[number]->lacks(sessions[number]);
    }
    if ((unanswered || behind) && now < drain_until_ns)
        return;
    drain_until_ns = 0;
    report(unanswered, behind);
}

/* Orders */

static Session *make_session(char **words)
{
    if (session_count % 64 == 0) {
        sessions = xalloc(sessions, session_count + 64, sizeof *sessions);
        asking = xalloc(asking, session_count + 64, sizeof *asking);
    }
    Session *session = xzeroed(1, sizeof *session);
    Order *order = xzeroed(1, sizeof *order);
    *order = order_to(HOLD, words);
    session->client.order = order;
    session->client.number = session_count;
    sessions[session_count++] = session;
    return session;
}

static void set_batch(char **words)
{
    unsigned kind = number_of(words[1]);
    batch = number_of(words[0]);
    persistent = kind == 1;
    if (!batch || batch > MOST_SLOTS)
        refuse("not a number of changes", words[0]);
    if (kind > 1)
        refuse("neither 0 nor 1", words[1]);
}

static void open_all(unsigned at_once)
{
    for (unsigned number = 0; number < session_count; number++) {
        if (sessions[number]->prepare)
            sessions[number]->prepare(sessions[number]);
        if (sessions[number]->ask)
            asking[asking_count++] = sessions[number];
    }
    if (!session_count || !at_once)
        refuse("open", "of none there is nothing to do");
    under_way = at_once;
    opening_ns = now_ns();
    open_more();
}

/* Who only listens says so now and then: a server may close the silent. */
static void acknowledge_all(void)
{
    for (unsigned number = 0; number < session_count; number++) {
        Client *client = &sessions[number]->client;
        Buffer out = { 0 };
        uint8_t body[4];
        if (client->state != OPEN)
            continue;
        put32(body, (uint32_t)client->received);
        write_control(&out, 2, ACKNOWLEDGEMENT, 0, body, sizeof body);
        const char *fault = client_send(client, epoll_fd, &out);
        buffer_free(&out);
        if (fault)
            broken(sessions[number], fault);
    }
}

static void start(unsigned messages, double messages_s)
{
    if (!asking_count || ready != session_count)
        refuse("nobody", "who asks is open");
    acknowledge_all();
    window_messages = messages;
    pace = messages_s;
    pace_from_ns = now_ns();
    paced = 0;
    for (unsigned number = 0; number < asking_count; number++)
        fill_window(asking[number]);
}

static void obey(char **words, unsigned count)
{
    const char *what = words[0];
    unsigned given = count - 1;
    bool makes = !strcmp(what, "batch") || !strcmp(what, "member") || !strcmp(what, "caller")
        || !strcmp(what, "pinger") || !strcmp(what, "open");
    if (makes && opening_ns)
        refuse(what, "all clients are made and opened already");
    if (!strcmp(what, "stop"))
        exit(0);
    else if (!strcmp(what, "begin"))
        begin_window();
    else if (!strcmp(what, "end") && given == 1)
        end_window(strtod(words[1], NULL));
    else if (!strcmp(what, "batch") && given == 2)
        set_batch(words + 1);
    else if (!strcmp(what, "member") && given > 4)
        member_make(make_session(words + 1), words + 4, given - 3);
    else if (!strcmp(what, "caller") && given == 4)
        caller_make(make_session(words + 1), words[4]);
    else if (!strcmp(what, "pinger") && given == 3)
        pinger_make(make_session(words + 1));
    else if (!strcmp(what, "open") && given == 1)
        open_all(number_of(words[1]));
    else if (!strcmp(what, "run") && given == 1)
        start(number_of(words[1]), 0);
    else if (!strcmp(what, "pace") && given == 1)
        start(0, strtod(words[1], NULL));
    else
        refuse("not an order", what);
}

/* The loop */

static void turn(uint64_t due_ns)
{
    struct epoll_event events[EVENTS];
    int count = wait_until(epoll_fd, events, EVENTS, due_ns);
    for (int number = 0; number < count; number++) {
        if (events[number].data.ptr)
            serve(events[number].data.ptr, events[number].events);
        else
            orders_read(obey);
    }
}

int main(void)
{
    epoll_fd = orders_begin();
    begin_window();
    for (;;) {
        uint64_t due_ns = UINT64_MAX;
        if (pace > 0)
            due_ns = send_due();
        if (drain_until_ns) {
            look_whether_all_came();
            due_ns = look_at_ns;
        }
        turn(due_ns);
    }
}
